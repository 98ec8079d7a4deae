"""What the tests of the operator as a process share: it, its namespace, and what a user writes."""

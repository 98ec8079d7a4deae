"""The use cases: what is known (stores), what to look at next (queue), and one pass over one request (resuming)."""

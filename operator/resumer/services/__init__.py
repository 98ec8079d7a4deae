"""The use cases: what is known (stores), what comes next (queue), one pass over it (resuming)."""

"""Training loop, its hooks, and the state of a run."""

"""Training: loop, hooks, and the state of a run."""

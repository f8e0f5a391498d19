"""Training: the loop, its hooks and schedules, and the folder of a run."""

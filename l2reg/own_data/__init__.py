"""One's own data as a task: a table of scans of any grids, its splits, and what is predicted."""

"""From files on disk to batches: tasks, layouts, pairs, preprocessing, checks."""

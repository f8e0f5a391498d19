"""Feature extractors: maps of both scans of a pair that are compared voxel by voxel."""

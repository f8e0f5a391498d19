"""Registration of two scans that belong to no data set."""

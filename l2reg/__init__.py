"""Deep-learning registration of 3D medical scans."""

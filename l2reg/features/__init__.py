"""What is compared: feature maps of both scans of a pair, voxel by voxel."""

"""Displacement fields and affine maps: their one convention, and the operations on them."""

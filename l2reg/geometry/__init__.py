"""Displacement fields: the one convention, and what can be computed with it."""

"""Transforms between scans in millimetres, as other tools read them."""

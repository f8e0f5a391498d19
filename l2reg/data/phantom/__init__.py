"""Anatomy-like data with a known true displacement field, in the challenge's layout."""

from l2reg.data.phantom.make import FLAVOURS, MANIFEST, SIZES, make_phantom, phantom_task

__all__ = ["FLAVOURS", "MANIFEST", "SIZES", "make_phantom", "phantom_task"]

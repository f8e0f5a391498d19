"""Phantoms: anatomy-like data with a known true displacement field, in the challenge's layout."""

"""Submissions to the challenge: fields in its format, zips, and checks of form and convention."""

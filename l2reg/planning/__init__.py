"""Plans for one's own data: its fingerprint, the settings proposed from it, and one dry step."""

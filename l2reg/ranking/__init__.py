"""The challenge's ranking of teams, by the official code or by the description on its page."""

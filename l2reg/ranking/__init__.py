"""The challenge's ranking of teams, official and as its page describes it."""

"""The official scores of displacement fields, equal to the organisers' to the digit."""

"""The official scores of displacement fields, to the digit."""

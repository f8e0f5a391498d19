"""What the challenge receives: the second door of the field convention."""

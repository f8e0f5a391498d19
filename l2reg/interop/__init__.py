"""The third door of the field convention: to the world of millimetres."""

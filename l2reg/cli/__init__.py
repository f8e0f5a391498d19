"""The ``l2reg`` command: one subcommand a file, loaded when it is asked for."""

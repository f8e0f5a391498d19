"""Command line of ``l2reg``: one subcommand a file, loaded when it is called."""

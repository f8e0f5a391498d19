"""Version of l2reg, also where no package is installed but a checkout is used."""

__version__ = "0.1.0"

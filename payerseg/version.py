"""The version, in a file of its own: every room may name it, and the build reads it unimported."""

__version__ = "0.1.0"

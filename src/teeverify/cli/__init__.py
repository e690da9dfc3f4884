"""The command line: ``teeverify``."""

"""Strict reading of text and bytes. Python's own decoders are lenient; these are not."""

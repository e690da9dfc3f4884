"""Wire dialects, one file each: what a provider sends becomes neutral, untrusted evidence."""

from teeverify.providers.capture import load_capture
from teeverify.providers.registry import DIALECTS, Dialect, dialect_for

__all__ = ["DIALECTS", "Dialect", "dialect_for", "load_capture"]

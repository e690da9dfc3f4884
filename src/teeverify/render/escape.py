"""The one way in which every face shows text that is not ours."""

from teeverify.encoding.text import printable

__all__ = ["printable"]

"""What other people's libraries raise, in one place (law 10)."""

from __future__ import annotations

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import (
    DuplicateExtension,
    ExtensionNotFound,
    InvalidVersion,
    UnsupportedGeneralNameType,
)

__all__ = ["FOREIGN_ERRORS"]

# Warnings are among them because a caller may have turned them into errors: then the input is
# refused, like any other that a library objects to.
FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    DuplicateExtension,
    ExtensionNotFound,
    InternalError,
    InvalidSignature,
    InvalidVersion,
    LookupError,
    RuntimeError,
    TypeError,
    UnsupportedAlgorithm,
    UnsupportedGeneralNameType,
    ValueError,
    Warning,
)

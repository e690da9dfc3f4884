"""Is THIS answer from THAT enclave: exact bytes, signed texts, the end of the stream."""

from teeverify.responses.answer import PHALA_TEXT, TEXT, ZEROG_TEXT, examine_answer
from teeverify.responses.form import UNSIGNED, Form
from teeverify.responses.nilai import NILAI
from teeverify.responses.opengradient import OPENGRADIENT
from teeverify.responses.signed_text import (
    SignedText,
    known_keys,
    parse_signature,
    verify_signed_text,
)

__all__ = [
    "NILAI",
    "OPENGRADIENT",
    "PHALA_TEXT",
    "TEXT",
    "UNSIGNED",
    "ZEROG_TEXT",
    "Form",
    "SignedText",
    "examine_answer",
    "known_keys",
    "parse_signature",
    "verify_signed_text",
]

"""Is THIS answer from THAT enclave: exact bytes, signed texts, the end of the stream."""

from teeverify.responses.answer import examine_answer
from teeverify.responses.signed_text import SignedText, parse_signature, verify_signed_text

__all__ = ["SignedText", "examine_answer", "parse_signature", "verify_signed_text"]

"""The one exception tree.

Only :class:`TeeVerifyError` leaves the public API. The two families never mix (law 12, "wrong is
not missing"): an :class:`EvidenceError` is final and must not be retried; an :class:`Unavailable`
may be retried, and until then nothing is verified.

Every error carries a stable ``id`` such as ``tdx.debug-disabled``. It names the check that failed,
it is what ``teeverify explain`` takes, and it is the anchor of the check's page in the docs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime

    from teeverify.appraisal.result import AttestationResult

__all__ = [
    "AppraisalFailed",
    "BindingMismatch",
    "ChainInvalid",
    "ConfigurationError",
    "DebugEnabled",
    "EndorsementInvalid",
    "EndorsementUnavailable",
    "EndpointUnavailable",
    "EvidenceError",
    "MalformedEvidence",
    "ResponseNotVerified",
    "SignatureInvalid",
    "SignatureUnavailable",
    "StaleEvidence",
    "TcbRejected",
    "TeeVerifyError",
    "Unavailable",
]

EXIT_SATISFIED = 0
EXIT_POLICY = 1
EXIT_WRONG = 2
EXIT_UNDECIDED = 3
EXIT_USAGE = 64
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

WORST_FIRST = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY, EXIT_SATISFIED)
"""Of several findings or sources the first of these that occurs is the verdict's code."""


class TeeVerifyError(Exception):
    """Root of everything this library raises.

    Args:
        message: What was checked and what is wrong, as a sentence for a person.
        id: Stable id of the check that failed, for example ``tdx.quote-signature``.
        got: What was found, as short text.
        want: What was expected, as short text.
        hint: What the reader can do next.
    """

    exit_code: ClassVar[int] = EXIT_BUG
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        id: str,
        got: str | None = None,
        want: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.id = id
        self.got = got
        self.want = want
        self.hint = hint
        self.result: AttestationResult | None = None

    @property
    def docs(self) -> str:
        """Where the docs explain this check, relative to the documentation root."""
        return f"checks.html#{self.id.replace('.', '-')}"

    def __str__(self) -> str:
        """The message, then got, want and hint where they are known.

        Text from evidence may be in any of them, so nothing in it may steer a terminal.
        """
        parts = [(self.message + self.where).removesuffix(".")]
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.want is not None:
            parts.append(f"want {self.want}")
        text = _printable("; ".join(parts))
        return f"{text}. {self.hint} [{self.id}]" if self.hint else f"{text} [{self.id}]"

    @property
    def where(self) -> str:
        """Where in the input the error lies, to follow the message; empty where nobody knows."""
        return ""


def _printable(text: str) -> str:
    """Control, format and bidirectional characters by their code (as encoding/text.py, above)."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


class EvidenceError(TeeVerifyError):
    """The other side's bytes or facts are wrong. Do not use the answer, do not retry."""

    exit_code = EXIT_WRONG


class MalformedEvidence(EvidenceError):
    """Bytes that do not have the form they must have.

    Args:
        message: What was being read.
        id: Stable id of the parser's check.
        field: The field being read, dotted, for example ``tdx.quote.qe_report``.
        offset: Byte offset at which the field starts, where that is known.
        need: How many bytes (or what) the field needs.
        have: How many bytes (or what) there are.
        got: What was found, as short text.
        want: What was expected, as short text.
        hint: What the reader can do next.
    """

    def __init__(  # noqa: PLR0913 -- the fields are the contract
        self,
        message: str,
        *,
        id: str,
        field: str,
        offset: int | None = None,
        need: int | str | None = None,
        have: int | str | None = None,
        got: str | None = None,
        want: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, id=id, got=got, want=want, hint=hint)
        self.field = field
        self.offset = offset
        self.need = need
        self.have = have

    @property
    def where(self) -> str:
        """The field, its offset, and how much of it there is."""
        where = f" in {self.field}" if self.field not in self.message else ""
        at = f" at offset {self.offset:#x}" if self.offset is not None else ""
        count = f": need {self.need}, have {self.have}" if self.need is not None else ""
        return where + at + count


class SignatureInvalid(EvidenceError):
    """A signature does not verify under the key that must have made it."""


class ChainInvalid(EvidenceError):
    """A certificate path is not one that the vendor could have issued, or leads elsewhere."""


class EndorsementInvalid(EvidenceError):
    """An endorsement belongs to another platform, another root, or is revoked.

    Attributes:
        invalid_since: When what was revoked became invalid, if the list says so (RFC 5280 section
            5.3.2); a list's own date is later.
    """

    invalid_since: datetime | None = None


class TcbRejected(EvidenceError):
    """The platform's TCB is revoked, or matches no level that its vendor describes."""


class BindingMismatch(EvidenceError):
    """Two things that must be tied together are not."""


class StaleEvidence(EvidenceError):
    """The evidence answers another nonce, or is older than allowed."""


class DebugEnabled(EvidenceError):
    """The VM runs in debug mode: its host can read and change everything in it."""


class AppraisalFailed(TeeVerifyError):
    """The facts are genuine, and the policy says no."""

    exit_code = EXIT_POLICY


class ResponseNotVerified(TeeVerifyError):
    """This answer was not signed, whole and unchanged, by the attested key."""

    exit_code = EXIT_WRONG


class Unavailable(TeeVerifyError):
    """Something that is needed could not be had, or is outside its dates. May be retried."""

    exit_code = EXIT_UNDECIDED
    retryable = True


class EndorsementUnavailable(Unavailable):
    """A vendor's endorsement is absent, unreachable or outside its dates."""


class SignatureUnavailable(Unavailable):
    """The endpoint has no signature for this answer, or not yet."""


class EndpointUnavailable(Unavailable):
    """The endpoint did not answer, or not with evidence."""


class ConfigurationError(TeeVerifyError):
    """The caller's mistake: a wrong argument, policy or root. Nothing was verified."""

    exit_code = EXIT_USAGE

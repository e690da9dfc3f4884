"""Which of Intel's data sets is the standard one: the numbers that Intel has signed.

Format: Intel PCS API version 4, "Get TCB Evaluation Data Numbers". Every TCB recovery gets a data
set with a number. The newest is served as ``early`` at once; what is served without an option, the
standard one, follows a year after the recovery was made public.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta

from teeverify.clock import parse_time
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import EndorsementUnavailable
from teeverify.roots import RootsInput, as_roots
from teeverify.roots.anchors import RootsKind
from teeverify.tdx.collateral import Endorsements
from teeverify.tdx.documents import EVALUATION_NUMBERS, EvaluationNumbers, Tee
from teeverify.tdx.endorsed import verify_root, verify_signed_document
from teeverify.tdx.pool import Wanted, choose

__all__ = ["EvaluationClaims", "verify_evaluation_numbers"]

_SEAL = Seal("teeverify.tdx.verify_evaluation_numbers")
# Seen: sets 18, 19 and 20 became the standard ones a year after their recovery events, to the day
# or a little later. Two weeks more, so that whoever asks Intel in those days is not refused.
_STANDARD_AFTER = timedelta(days=365 + 14)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationClaims(Sealed):
    """Intel's word on which data sets there are.

    Attributes:
        tee: For which kind of TEE.
        standard: The number of the newest set that is surely the standard one by now.
        newest: The number of the newest set of all.
        at: The time for which this holds.
        roots_kind: Which kind of roots it was verified under.
    """

    tee: Tee
    standard: int
    newest: int
    at: datetime
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, _SEAL)


def verify_evaluation_numbers(
    endorsements: Endorsements, *, at: datetime | str, roots: RootsInput = None, tee: Tee = "TDX"
) -> EvaluationClaims:
    """Verify Intel's list of data sets, and say which number is the standard one.

    Args:
        endorsements: What Intel signed; the list and the root's revocation list are among it.
        at: The time at which all must be valid.
        roots: See :func:`~teeverify.tdx.verify_quote`.
        tee: For which kind of TEE.

    Raises:
        EndorsementUnavailable: The list is absent, or outside its dates.
        SignatureInvalid: Intel's TCB signing key did not sign it.
        ChainInvalid: Its signer's path is not Intel's.
        EndorsementInvalid: Its signer is revoked.
    """
    moment = parse_time(at)
    trusted = as_roots(roots)
    root_crl, root = verify_root(endorsements, trusted, moment)
    wanted: Wanted[EvaluationNumbers] = Wanted(
        id=EVALUATION_NUMBERS,
        what="Intel's list of data sets",
        address=tee,
        matches=lambda item: item.tee == tee,
        dates=lambda item: (item.issue_date, item.next_update, item.recoveries[0][0]),
    )
    numbers = choose(endorsements.pool.evaluation_numbers, wanted, moment)
    if numbers.tee != tee:
        raise EndorsementUnavailable(
            "Intel's list of data sets is for another kind of TEE",
            id=EVALUATION_NUMBERS,
            got=numbers.tee,
            want=tee,
        )
    names = EVALUATION_NUMBERS, "Intel's list of data sets"
    verify_signed_document(numbers, names, (root_crl, root), endorsements, moment)
    standard = [number for number, event in numbers.recoveries if event + _STANDARD_AFTER <= moment]
    every = [number for number, _ in numbers.recoveries]
    return EvaluationClaims(
        tee=tee,
        standard=max(standard, default=min(every)),
        newest=max(every),
        at=moment,
        roots_kind=trusted.kind,
        seal=_SEAL,
    )

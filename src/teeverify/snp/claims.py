"""What a verified report proves."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import datetime

from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import EndorsementUnavailable
from teeverify.roots.anchors import RootsKind
from teeverify.snp.flags import GuestPolicy, PlatformInfo
from teeverify.snp.product import Product, TcbVersion
from teeverify.snp.report import Report, Signer

__all__ = ["SEAL", "Claims", "CrlState"]

SEAL = Seal("teeverify.snp.verify_report")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlState:
    """The list by which the CA above the report's key was found not to be revoked.

    Attributes:
        number: Its number; ``None`` where it has none.
        this_update: When AMD made it.
        next_update: When AMD's next one is due.
    """

    number: int | None
    this_update: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Claims(Sealed):
    """What cryptography proved about a report, under the roots that are named.

    Old firmware is a claim here, refused (or not) by a policy later.

    Attributes:
        report: The report; every field of it is genuine.
        at: The time for which all this was verified.
        product: Milan, Genoa (with Bergamo and Siena) or Turin; proved by the chain.
        signer: The kind of key that signed: a chip's (VCEK) or a cloud's (VLEK).
        current_tcb: Versions of the firmware that runs.
        reported_tcb: Versions for which AMD certified the key that signed.
        committed_tcb: Versions below which the host cannot go back.
        launch_tcb: Versions at the guest's launch.
        chip_id: Names the chip; ``None`` where the host masks it, as clouds with a VLEK do.
        csp_id: Names the cloud whose VLEK signed; ``None`` for a VCEK.
        crl: The revocation list that was checked; ``None`` only where that was waived.
        crl_missing: Why there is none, where that was waived.
        issued_at: When the newest endorsement used was issued.
        expires_at: The first moment at which something that this rests on must be replaced.
        roots_kind: Which kind of roots it was verified under.
        anchor: The trust anchor's name.
        anchor_fingerprint: SHA-256 of its public key, in hex.
    """

    report: Report
    at: datetime
    product: Product
    signer: Signer
    current_tcb: TcbVersion
    reported_tcb: TcbVersion
    committed_tcb: TcbVersion
    launch_tcb: TcbVersion
    chip_id: bytes | None
    csp_id: str | None
    crl: CrlState | None
    crl_missing: EndorsementUnavailable | None
    issued_at: datetime
    expires_at: datetime
    roots_kind: RootsKind
    anchor: str
    anchor_fingerprint: str
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, SEAL)

    @property
    def policy(self) -> GuestPolicy:
        """What the guest's owner lets the host do."""
        return self.report.policy

    @property
    def platform_info(self) -> PlatformInfo:
        """How the host is configured."""
        return self.report.platform_info

    @property
    def report_data(self) -> bytes:
        """64 bytes of the guest's choice (of the host's, if the host asked for the report)."""
        return self.report.report_data

    @property
    def measurement(self) -> bytes:
        """The launch digest."""
        return self.report.measurement

    @property
    def provisional(self) -> bool:
        """Whether the firmware that runs is not committed, so that the host may still go back."""
        report = self.report
        return self.current_tcb != self.committed_tcb or report.current != report.committed

    def __repr__(self) -> str:
        """The verdict in short."""
        return (
            f"snp.Claims(version={self.report.version}, product={self.product}, "
            f"signer={self.signer}, reported_tcb=({self.reported_tcb}), roots={self.roots_kind})"
        )

"""What a verified quote proves."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import datetime

from teeverify.encoding.sealed import Seal, Sealed
from teeverify.roots.anchors import RootsKind
from teeverify.tdx.quote import Quote, TdReport
from teeverify.tdx.status import TcbStatus
from teeverify.tdx.tcb import TcbGap

__all__ = ["SEAL", "Claims", "TdAttributes"]

SEAL = Seal("teeverify.tdx.verify_quote")


@dataclass(frozen=True, slots=True)
class TdAttributes:
    """TD_ATTRIBUTES by name (Intel TDX Module ABI 1.5, TD_ATTRIBUTES).

    Attributes:
        value: The 64 bits.
    """

    value: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> TdAttributes:
        """Read the eight bytes of a TD report."""
        return cls(int.from_bytes(raw, "little"))

    def _bit(self, number: int) -> bool:
        return bool(self.value >> number & 1)

    @property
    def debug(self) -> bool:
        """The host can read and change the VM (bit 0)."""
        return self._bit(0)

    @property
    def profiling(self) -> bool:
        """The host can profile the VM (bits 4 to 6)."""
        return bool(self.value & 0x70)

    @property
    def icssd(self) -> bool:
        """Instruction-count based single-step defence (bit 16)."""
        return self._bit(16)

    @property
    def service_td_extension(self) -> bool:
        """A service TD may change it later (bit 17)."""
        return self._bit(17)

    @property
    def lass(self) -> bool:
        """Linear address space separation (bit 27)."""
        return self._bit(27)

    @property
    def sept_ve_disable(self) -> bool:
        """Memory that the host takes away stops the VM, not only raises an exception (bit 28)."""
        return self._bit(28)

    @property
    def migratable(self) -> bool:
        """The VM can be moved to another machine (bit 29)."""
        return self._bit(29)

    @property
    def pks(self) -> bool:
        """Supervisor protection keys (bit 30)."""
        return self._bit(30)

    @property
    def kl(self) -> bool:
        """Key Locker (bit 31)."""
        return self._bit(31)

    @property
    def tpa(self) -> bool:
        """The VM is a TDX provisioning agent (bit 62)."""
        return self._bit(62)

    @property
    def perfmon(self) -> bool:
        """Performance monitoring (bit 63)."""
        return self._bit(63)

    @property
    def reserved_bits(self) -> tuple[int, ...]:
        """The numbers of bits that are set and must be zero (1-3, 7-15, 23-26, 32-61)."""
        reserved = (*range(1, 4), *range(7, 16), *range(23, 27), *range(32, 62))
        return tuple(number for number in reserved if self._bit(number))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Claims(Sealed):
    """What cryptography proved about a quote, under the roots that are named.

    An old TCB is a claim here, refused (or not) by a policy later.

    Attributes:
        quote: The quote; every field of its header and body is genuine.
        at: The time for which all this was verified.
        fmspc: Family, model, stepping, platform type and custom SKU of the CPU.
        pce_id: Its provisioning certification enclave.
        ppid: Names this one machine.
        platform_instance_id: Names its registration; ``None`` for Processor CA platforms.
        dynamic_platform: Whether packages can be added; ``None`` where Intel does not say.
        cached_keys: Whether Intel keeps its root keys; ``None`` where Intel does not say.
        smt_enabled: Whether hyper-threading is on; ``None`` where Intel does not say.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        tcb_status: What to appraise: launch and current status after convergence.
        launch_tcb_status: With the TCB at launch.
        current_tcb_status: With the TCB of now; ``None`` where the body does not state it.
        platform_tcb_status: Of the platform's level alone (at launch).
        module_tcb_status: Of the TDX module's level alone (at launch); ``None`` where the
            platform's levels hold its SVN.
        qe_tcb_status: Of the quoting enclave's level alone.
        advisory_ids: Intel's advisories for the matched levels, each once, in the order met.
        tcb_date: The oldest date of the matched levels.
        tcb_gap: What the machine lacks; ``None`` where no SVN is too low.
        tcb_info_number: Evaluation data number of the TCB info.
        qe_identity_number: Evaluation data number of the QE identity.
        root_crl_number: Number of the root CRL; ``None`` where it has none.
        pck_crl_number: Number of the PCK CRL; ``None`` where it has none.
        pck_ca: Which of Intel's CAs certified the CPU: ``platform`` or ``processor``.
        issued_at: When the newest endorsement used was issued.
        expires_at: The first moment at which something that this rests on must be replaced.
        roots_kind: Which kind of roots it was verified under.
        anchor: The trust anchor's name.
        anchor_fingerprint: SHA-256 of its public key, in hex.
    """

    quote: Quote
    at: datetime
    fmspc: bytes
    pce_id: bytes
    ppid: bytes
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None
    sgx_type: int
    tcb_status: TcbStatus
    launch_tcb_status: TcbStatus
    current_tcb_status: TcbStatus | None
    platform_tcb_status: TcbStatus
    module_tcb_status: TcbStatus | None
    qe_tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_date: datetime
    tcb_gap: TcbGap | None
    tcb_info_number: int
    qe_identity_number: int
    root_crl_number: int | None
    pck_crl_number: int | None
    pck_ca: str
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
    def is_td(self) -> bool:
        """Whether a TD was quoted; otherwise it was an SGX enclave, which is no VM."""
        return isinstance(self.quote.body, TdReport)

    @property
    def td(self) -> TdReport:
        """The TD report.

        Raises:
            ConfigurationError: The quote is of an SGX enclave, which is no VM.
        """
        return self.quote.td

    @property
    def td_attributes(self) -> TdAttributes:
        """The TD's attributes by name.

        Raises:
            ConfigurationError: The quote is of an SGX enclave, which is no VM.
        """
        return TdAttributes.from_bytes(self.td.td_attributes)

    @property
    def mr_service_td(self) -> bytes | None:
        """Which service TDs are bound to it; ``None`` where the body does not state it.

        Raises:
            ConfigurationError: The quote is of an SGX enclave, which is no VM.
        """
        return self.td.mr_service_td

    @property
    def tcb_evaluation_data_number(self) -> int:
        """The lower of the two evaluation data numbers."""
        return min(self.tcb_info_number, self.qe_identity_number)

    @property
    def counters(self) -> dict[str, int]:
        """The numbers of the endorsements used, by names that keep roots and kinds apart.

        Intel only ever raises them, so a lower one than seen before is an older endorsement.
        """
        root, tee = self.anchor_fingerprint[:16], "tdx" if self.is_td else "sgx"
        numbers = {
            f"{root}/{tee}/tcb-info/{self.fmspc.hex()}": self.tcb_info_number,
            f"{root}/{tee}/qe-identity": self.qe_identity_number,
            f"{root}/root-crl": self.root_crl_number,
            f"{root}/pck-crl/{self.pck_ca}": self.pck_crl_number,
        }
        return {name: number for name, number in numbers.items() if number is not None}

    def __repr__(self) -> str:
        """The verdict in short."""
        return (
            f"tdx.Claims(version={self.quote.version}, fmspc={self.fmspc.hex()}, "
            f"tcb_status={self.tcb_status}, roots={self.roots_kind})"
        )

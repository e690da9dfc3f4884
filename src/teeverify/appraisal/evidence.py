"""Evidence as a provider's dialect yields it: neutral, and untrusted until it is examined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from teeverify import nvidia, snp, tdx
from teeverify.binding import Bound, Process, SigningKey
from teeverify.errors import TeeVerifyError

__all__ = [
    "Deployed",
    "Evidence",
    "EvidenceKind",
    "Held",
    "Machine",
    "OhttpKey",
    "RecordedAnswer",
    "Role",
    "Scope",
]

Role: TypeAlias = Literal["model", "gateway", "compose-manager", "component"]
EvidenceKind: TypeAlias = Literal["endpoint", "component", "none"]
Scope: TypeAlias = Literal["answer", "endpoint", "evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A file that a compose-manager's log says it deployed, and never took down whole.

    Attributes:
        file: Its name.
        sha256: Hash of its bytes, if the log has one.
    """

    file: str
    sha256: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OhttpKey:
    """A key configuration to which requests may be encrypted (RFC 9458), with who signed it.

    Attributes:
        config: The configuration's bytes.
        signer: The Ed25519 key that signed them.
        signature: Its signature.
        shown: The configuration once more, as the report shows it elsewhere.
    """

    config: bytes
    signer: bytes
    signature: bytes
    shown: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one attested machine presents. Nothing here is verified.

    Attributes:
        role: What the dialect says it is.
        label: Name of the part in findings; equal to the role unless there are several.
        quote: The TDX quote, as received after hex or base64.
        snp_report: The AMD attestation report, out of its container.
        hcl: Azure's envelope of ``snp_report``, where it came without a TPM's quote.
        azure: The envelope, TPM quote and PCRs of an Azure VM, whose report is ``snp_report``, or
            is quoted in ``quote``.
        snp_certificates: What came with that report: a certificate table, or certificates.
        layout: Name of the ``report_data`` layout, chosen by dialect and request; empty for a bare
            component.
        key: The signing key that it claims.
        public_key: The public key beside it, if given: 64 bytes of secp256k1 beside an address, or
            the 32 of an Ed25519 key once more.
        tls_spki_sha256: The TLS key fingerprint that it claims, if the layout binds one.
        certified: First and last moment of the certificate that shows this key, where no connection
            was there to check it.
        peer_spki_sha256: That of the TLS connection on which the evidence came, if known.
        actions_hash: For a compose-manager: hash of its action log, recomputed.
        commits: What else the layout commits to, beside key, TLS key, action log and nonce.
        event_log: The dstack event log, as received (JSON text or list).
        app_compose: The exact text of the application's configuration.
        gpus: The GPU evidence, as received.
        model_names: Names under which it says that it serves the model.
        nonce: The nonce that it says it answers: unsigned, only compared.
        device_id: The hash of the platform's id that it names, if it names one.
        node: Its place in a list of nodes, of which any may answer; ``None`` for what they share.
        broken: Why this entry of a list could not be read; then it has no evidence.
        kin: Machines of one kin have one operator, whose key service each of them must name.
        managed: Whether the dialect demands a compose-manager's log for it.
        ohttp: A key to which requests may be encrypted, shown beside the evidence.
        deployed: For a compose-manager: what its log says is deployed, oldest first.
    """

    role: Role
    label: str
    quote: bytes | None = None
    snp_report: bytes | None = None
    snp_certificates: bytes | None = None
    hcl: bytes | None = None
    azure: snp.AzureEvidence | None = None
    layout: str = ""
    key: SigningKey | None = None
    public_key: bytes | None = None
    tls_spki_sha256: bytes | None = None
    certified: tuple[datetime, datetime] | None = None
    peer_spki_sha256: bytes | None = None
    actions_hash: bytes | None = None
    commits: Bound = field(default_factory=Bound)
    event_log: Any = None
    app_compose: str | None = None
    gpus: Any = None
    model_names: tuple[str, ...] = ()
    nonce: bytes | None = None
    device_id: bytes | None = None
    node: int | None = None
    broken: TeeVerifyError | None = None
    kin: str = ""
    managed: bool = False
    ohttp: OhttpKey | None = None
    deployed: tuple[Deployed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """An answer that was kept with the evidence of its signer, as receipts keep it. Untrusted.

    Attributes:
        signature: What the signature route returned; ``None`` where only the channel on which it
            came authenticated it.
        answer: The answer's bytes; ``None`` where only their hash was kept.
        request: The request's bytes; ``None`` where only their hash was kept.
        seen: What its holder says of the exchange beside its bytes, by the names of
            ``responses.form.Context``.
    """

    signature: bytes | None
    answer: bytes | None = field(repr=False)
    request: bytes | None = field(repr=False)
    seen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a receipt says of itself. Untrusted.

    Attributes:
        digest: Its id: the hash of its core.
        attestation: Hash of all that belongs to its attestation; receipts that have it in common
            share one.
        stated: When the answer had arrived, says its holder.
        timestamps: Tokens over the id.
    """

    digest: bytes
    attestation: bytes
    stated: datetime
    timestamps: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that one source holds. Untrusted: nothing in it was verified.

    Attributes:
        kind: ``endpoint`` (a provider's report), ``component`` (a bare quote, a GPU list), or
            ``none`` (only an answer and its signature).
        provider: Name of the provider or form.
        source: Where it came from, for people.
        machines: The attested machines.
        requested_model: The model that the evidence was requested for.
        nonce: The nonce recorded beside it; the caller's own takes precedence.
        recorded_at: The time recorded beside it.
        tdx_endorsements: Intel's collateral found beside it.
        snp_endorsements: AMD's certificates and lists found beside it.
        nvidia_endorsements: NVIDIA's answers found beside it.
        answer: An answer that was kept with it.
        held: What a receipt says of itself, where this comes from one.
        live: Whether it was fetched here, by who appraises it, and only now.
        nras_posted: Whether NRAS's answers in ``nvidia_endorsements`` are to evidence that was
            posted here, and only now.
        notes: What was left aside, and why.
    """

    kind: EvidenceKind
    provider: str
    source: str
    machines: tuple[Machine, ...] = ()
    requested_model: str | None = None
    nonce: bytes | None = None
    recorded_at: datetime | None = None
    tdx_endorsements: tdx.Endorsements | None = None
    snp_endorsements: snp.Endorsements | None = None
    nvidia_endorsements: nvidia.Endorsements | None = None
    answer: RecordedAnswer | None = None
    held: Held | None = None
    live: bool = False
    nras_posted: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def processes(self) -> tuple[Process, ...]:
        """What it says that processes of teeverify's own server bind."""
        found = (machine.commits.process for machine in self.machines)
        return tuple(process for process in found if process is not None)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts found, one line each."""
        lines = []
        for machine in self.machines:
            things = [
                ("TDX quote", machine.quote),
                ("AMD SEV-SNP report", machine.snp_report),
                ("event log", machine.event_log),
                ("app_compose", machine.app_compose),
                ("GPU evidence", machine.gpus),
            ]
            found = ", ".join(name for name, value in things if value is not None)
            lines.append(f"{machine.label}: {found or 'nothing'}")
        if self.tdx_endorsements is not None:
            lines.append("Intel endorsements")
        if self.snp_endorsements is not None:
            lines.append("AMD endorsements")
        if self.nvidia_endorsements is not None:
            lines.append("NVIDIA endorsements")
        if self.answer is not None:
            kept = "an answer and its request" if self.answer.answer else "hashes of an answer"
            lines.append(f"{kept}, and its signature")
        return (*lines, *self.notes)

    def show(self) -> str:
        """The parts as text that says what it is not."""
        head = f"{self.provider} ({self.kind}) from {self.source}: NOTHING HERE WAS VERIFIED"
        return "\n".join([head, *(f"  {part}" for part in self.parts)])

    def __repr__(self) -> str:
        """Say that nothing was verified."""
        return f"<unverified Evidence: {self.provider}, {len(self.machines)} machine(s)>"

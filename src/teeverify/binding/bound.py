"""The values that a ``report_data`` commits to."""

from __future__ import annotations

from dataclasses import dataclass

from teeverify.binding.keys import SigningKey
from teeverify.binding.teeverify1 import Process
from teeverify.errors import BindingMismatch

__all__ = ["ID", "WORDS", "Bound"]

ID = "binding.report-data"
WORDS = {
    "key": "the signing key",
    "nonce": "the nonce",
    "tls_spki_sha256": "the TLS key",
    "actions_hash": "the action log",
    "hpke_key": "the encryption key (HPKE)",
    "e2e_public_key": "the encryption key (ML-KEM)",
    "gpu_nonce": "the GPUs' nonce",
    "gpu_evidence_sha256": "the GPU evidence",
    "public_key": "the public key",
    "verifier_nonce": "Intel Trust Authority's nonce",
    "runtime_claims": "the paravisor's claims, which name the TPM's key",
    "process": "the server's keys, configuration and devices",
}
"""How sentences name the fields of :class:`Bound`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The values that a ``report_data`` must commit to; a layout takes the ones it knows.

    Attributes:
        nonce: 32 bytes; ``None`` where nobody chose one.
        key: The response-signing key.
        tls_spki_sha256: SHA-256 of the TLS key's SubjectPublicKeyInfo, 32 bytes.
        actions_hash: SHA-256 of a compose-manager's action log, 32 bytes.
        hpke_key: The X25519 public key to which requests are encrypted, 32 bytes.
        e2e_public_key: The ML-KEM public key to which requests are encrypted, in base64 exactly as
            it was served: Chutes hashes the text.
        gpu_nonce: The nonce that the machine chose for its GPUs, 32 bytes.
        gpu_evidence_sha256: SHA-256 of the GPU evidence's exact text, where there is any.
        nvswitch_evidence_sha256: The same of the NVSwitches' evidence.
        public_key: An uncompressed point of an elliptic curve, 65 bytes.
        verifier_nonce: The nonce material of Intel Trust Authority.
        runtime_claims: The exact bytes of a paravisor's claims.
        runtime_hash: The hash by which the paravisor's claims are bound.
        process: All that a process of ``teeverify/1`` binds beside the nonce.
    """

    nonce: bytes | None = None
    key: SigningKey | None = None
    tls_spki_sha256: bytes | None = None
    actions_hash: bytes | None = None
    hpke_key: bytes | None = None
    e2e_public_key: str | None = None
    gpu_nonce: bytes | None = None
    gpu_evidence_sha256: bytes | None = None
    nvswitch_evidence_sha256: bytes | None = None
    public_key: bytes | None = None
    verifier_nonce: bytes | None = None
    runtime_claims: bytes | None = None
    runtime_hash: str = "sha256"
    process: Process | None = None

    def need(self, name: str, size: int | None = 32) -> bytes:
        """A value that a layout cannot do without.

        Args:
            name: Name of the field.
            size: Its size; ``None`` for any.

        Raises:
            BindingMismatch: There is none, or one of another size.
        """
        value = getattr(self, name)
        data: bytes = value.encode("utf-8", "replace") if isinstance(value, str) else value or b""
        if value is None:
            raise BindingMismatch(
                f"the layout binds {WORDS[name]}, and there is none to compare",
                id=ID,
                got="absent",
            )
        if not data or (size is not None and len(data) != size):
            raise BindingMismatch(
                f"{WORDS[name]} has another size than the layout's",
                id=ID,
                got=f"{len(data)} bytes",
                want=f"{size or 'some'} bytes",
            )
        return data

    def signer(self) -> SigningKey:
        """The signing key, of a layout that cannot do without.

        Raises:
            BindingMismatch: There is none.
        """
        if self.key is None:
            raise BindingMismatch(
                f"the layout binds {WORDS['key']}, and there is none to compare",
                id=ID,
                got="absent",
            )
        return self.key

    def server(self) -> Process:
        """The process, of a layout that cannot do without.

        Raises:
            BindingMismatch: There is none.
        """
        if self.process is None:
            raise BindingMismatch(
                f"the layout binds {WORDS['process']}, and there is nothing to compare",
                id=ID,
                got="absent",
            )
        return self.process

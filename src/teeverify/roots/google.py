"""Google's root certificate for confidential computing, by its fingerprint.

Only the fingerprint is written down: several public projects have the same in their tests
(docs/adr/0013). The certificate itself comes with the endorsements, from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GCE_TCB_ROOT", "PinnedCertificate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedCertificate:
    """A certificate that is recognised by its bytes.

    Attributes:
        name: How its common name begins.
        certificate_sha256: SHA-256 of the certificate (DER), in hex.
        url: Where its owner publishes it.
    """

    name: str
    certificate_sha256: str
    url: str


GCE_TCB_ROOT = PinnedCertificate(
    name="GCE-cc-tcb-root",
    certificate_sha256="e876bc6978bf4f3da445f98a0a82363c8c0bae5a1fc033c6df65846a6cb0f18c",
    url="https://pki.goog/cloud_integrity/GCE-cc-tcb-root_1.crt",
)

"""The key fingerprint of a TLS certificate that a report shows."""

from __future__ import annotations

import hashlib

from teeverify.crypto.certificates import parse_certificate, parse_pem_chain

__all__ = ["spki_sha256_of_der", "spki_sha256_of_pem"]


def spki_sha256_of_pem(pem: str) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of the first certificate.

    Raises:
        MalformedEvidence: It is no PEM certificate.
    """
    chain = parse_pem_chain(pem, id="endpoint.bound", what="the report's TLS certificate")
    return hashlib.sha256(chain[0].spki).digest()


def spki_sha256_of_der(der: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate.

    Raises:
        MalformedEvidence: It is no certificate.
    """
    certificate = parse_certificate(der, id="endpoint.bound", what="the report's TLS certificate")
    return hashlib.sha256(certificate.spki).digest()

"""The types of trust anchors, and the set that a verification uses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.errors import ConfigurationError
from teeverify.roots import amd, vendors

__all__ = [
    "EMBEDDED",
    "Roots",
    "RootsInput",
    "RootsKind",
    "TrustAnchor",
    "UnsafeTestRoots",
    "as_roots",
    "custom_roots",
]

RootsKind: TypeAlias = Literal["embedded", "custom", "simulated"]
_MAX_ROOT_FILE = 64 * 1024
_MAX_ROOTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """A trust anchor in the sense of RFC 5280 section 6.1.1: a subject name and a public key.

    Attributes:
        name: What people call it.
        subject: DER of the subject name.
        spki: DER of the SubjectPublicKeyInfo.
        certificate_sha256: SHA-256 of the vendor's own certificate of this name and key, in hex,
            where it is written down with the anchor: a certificate of these very bytes was
            verified when it was written down.
        issued_sha256: SHA-256 of certificates that this key signed, in hex, likewise written down.
    """

    name: str
    subject: bytes
    spki: bytes
    certificate_sha256: str | None = None
    issued_sha256: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, in hex."""
        return hashlib.sha256(self.spki).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The anchors that one verification trusts, by vendor, and what kind they are.

    ``custom`` and ``simulated`` sets hold the same anchors for every vendor, and none of the
    embedded ones: genuine and foreign chains never mix in one verdict.
    """

    kind: RootsKind
    intel: tuple[TrustAnchor, ...]
    amd: tuple[TrustAnchor, ...]
    nvidia_device: tuple[TrustAnchor, ...]
    nvidia_rim: tuple[TrustAnchor, ...]
    nvidia_nras: tuple[TrustAnchor, ...]


EMBEDDED = Roots(
    kind="embedded",
    intel=(TrustAnchor(**vendors.INTEL_SGX_ROOT.anchor()),),
    amd=tuple(
        TrustAnchor(**root.anchor()) for root in (amd.ARK_MILAN, amd.ARK_GENOA, amd.ARK_TURIN)
    ),
    nvidia_device=(TrustAnchor(**vendors.NVIDIA_DEVICE_IDENTITY.anchor()),),
    nvidia_rim=(TrustAnchor(**vendors.NVIDIA_CORIM_SIGNING.anchor()),),
    nvidia_nras=(TrustAnchor(**vendors.NVIDIA_NRAS_INTERMEDIATE_004.anchor()),),
)


def custom_roots(
    certificates: Iterable[x509.Certificate | bytes | str], *, kind: RootsKind = "custom"
) -> Roots:
    """Make a set of roots from certificates of the caller's own.

    Args:
        certificates: Each a ``cryptography`` certificate, DER bytes, or PEM bytes or text (which
            may hold several).
        kind: How results name them; ``custom`` unless the caller is :class:`UnsafeTestRoots`.

    Raises:
        ConfigurationError: No certificate, too many, or one that cannot be read.
    """
    parsed: list[x509.Certificate] = []
    for item in certificates:
        parsed.extend([item] if isinstance(item, x509.Certificate) else _read(item))
    if not 0 < len(parsed) <= _MAX_ROOTS:
        raise ConfigurationError(
            "roots must be certificates",
            id="usage.roots",
            got=f"{len(parsed)} certificates",
            want=f"1 to {_MAX_ROOTS}",
        )
    anchors = tuple(_anchor(certificate) for certificate in parsed)
    return Roots(
        kind=kind,
        intel=anchors,
        amd=anchors,
        nvidia_device=anchors,
        nvidia_rim=anchors,
        nvidia_nras=anchors,
    )


def _read(item: bytes | str) -> list[x509.Certificate]:
    data = item.encode("utf-8", "replace") if isinstance(item, str) else item
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except (ValueError, TypeError):
        raise ConfigurationError(
            "a root certificate cannot be read",
            id="usage.roots",
            want="a PEM or DER X.509 certificate",
        ) from None


def _anchor(certificate: x509.Certificate) -> TrustAnchor:
    try:
        return TrustAnchor(
            name=certificate.subject.rfc4514_string(),
            subject=certificate.subject.public_bytes(),
            spki=certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "a root certificate's key or name cannot be read", id="usage.roots"
        ) from None


class UnsafeTestRoots:
    """The only door for simulated evidence.

    Whoever holds the keys behind these roots can forge any evidence: a verdict under them says
    nothing about any hardware, and every face says so.

    Args:
        certificates: The test roots, as :func:`custom_roots` takes them.

    Raises:
        ConfigurationError: See :func:`custom_roots`.
    """

    __slots__ = ("roots",)

    def __init__(self, certificates: Iterable[x509.Certificate | bytes | str]) -> None:
        self.roots = custom_roots(certificates, kind="simulated")

    @classmethod
    def load(cls, path: str | Path) -> UnsafeTestRoots:
        """Read a PEM file of test roots, as the simulator writes it.

        Raises:
            ConfigurationError: The file cannot be read or holds no certificates.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_ROOT_FILE + 1)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the test roots file cannot be read: {getattr(error, 'strerror', error)}",
                id="usage.roots",
                got=ascii(str(path)),
            ) from None
        if len(data) > _MAX_ROOT_FILE:
            raise ConfigurationError("the test roots file is too large", id="usage.roots")
        return cls([data])

    def __repr__(self) -> str:
        """Say what these are."""
        return f"UnsafeTestRoots({len(self.roots.intel)} roots; proves nothing about hardware)"


RootsInput: TypeAlias = (
    Roots | UnsafeTestRoots | x509.Certificate | Iterable[x509.Certificate | bytes | str] | None
)


def as_roots(value: RootsInput) -> Roots:
    """Turn what a caller passes as ``roots`` into the set that a verification uses.

    Args:
        value: ``None`` for the embedded roots, a :class:`Roots`, an :class:`UnsafeTestRoots`, or
            certificates of the caller's own (one, or several) as :func:`custom_roots` takes them.

    Raises:
        ConfigurationError: Anything else, or certificates that cannot be read.
    """
    if value is None:
        return EMBEDDED
    if isinstance(value, Roots):
        return value
    if isinstance(value, UnsafeTestRoots):
        return value.roots
    if isinstance(value, (x509.Certificate, bytes, str)):
        return custom_roots([value])
    try:
        items = list(value)
    except TypeError:
        items = []
    if not all(isinstance(item, (x509.Certificate, bytes, str)) for item in items):
        items = []
    return custom_roots(items)

"""Google's endorsement of the firmware that its VMs start with.

Google signs, for each release of its firmware, the launch digests that it gives by number of
virtual CPUs (https://github.com/google/gce-tcb-verifier, proto/endorsement.proto). What the
firmware boots then is not part of such a digest: the endorsement says whose firmware runs, and
nothing about kernel and disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from teeverify.clock import UTC, parse_time
from teeverify.crypto.certificates import Certificate, foreign_root_hint, verify_dates
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.x509 import parse_certificate, parse_pem_chain
from teeverify.encoding.checks import Check
from teeverify.encoding.protobuf import Message
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
)
from teeverify.roots import Roots, RootsInput, as_roots
from teeverify.roots.anchors import RootsKind
from teeverify.roots.google import GCE_TCB_ROOT
from teeverify.snp.claims import Claims

__all__ = [
    "GOOGLE_CHECKS",
    "GOOGLE_TABLE_GUID",
    "FirmwareClaims",
    "FirmwareEndorsement",
    "is_google_root",
    "parse_firmware_endorsement",
    "verify_firmware",
]

SEAL = Seal("teeverify.snp.verify_firmware")
GOOGLE_TABLE_GUID = "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"
"""Under which Google's hosts put the endorsement into the certificate table."""

_FORM, _ROOT = "google.endorsement", "google.root"
_CHAIN, _SIGNATURE, _MEASUREMENT = "google.chain", "google.signature", "google.measurement"
_MAX_BYTES = 256 * 1024
_DIGEST_BYTES = 48
_LATEST = 253_402_300_799  # the last second of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_RSA_BITS = 3072
# RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 4055 section 3.1).
PSS_SHA256 = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d0101"
    "08300d06096086480165030402010500a203020120"
)
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)

GOOGLE_CHECKS: tuple[Check, ...] = (
    Check(
        id=_FORM,
        claim="code",
        proves="The endorsement of the firmware has the form of Google's.",
        fix="Fetch it again by the report's measurement.",
    ),
    Check(
        id=_ROOT,
        claim="code",
        proves="Google's root certificate for confidential computing is at hand, and is the one "
        "that is written down here.",
        fix=f"Supply {GCE_TCB_ROOT.url} with the endorsements.",
    ),
    Check(
        id=_CHAIN,
        claim="code",
        proves="Google's root certified the key that signed the endorsement.",
        fix="A key that Google did not certify endorses nothing: fetch the endorsement again.",
    ),
    Check(
        id=_SIGNATURE,
        claim="code",
        proves="The key that Google certified signed exactly this endorsement.",
        fix="The endorsement was changed: fetch it again.",
    ),
    Check(
        id=_MEASUREMENT,
        claim="code",
        proves="The report's measurement is one that Google endorses: its firmware, and a number "
        "of virtual CPUs. What the firmware boots is not in it.",
        fix="The endorsement is of other firmware: fetch the one for this measurement.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareEndorsement:
    """One endorsement, read strictly and not verified.

    Attributes:
        raw: The endorsement as it came.
        signed: The bytes that were signed.
        signature: The signature over them.
        certificate: The certificate of the key that signed, in DER.
        chain: Certificates above it, in PEM; Google leaves this empty or puts its root here.
        made_at: When it was made.
        change: Google's number of the change that the firmware was built from.
        commit: The commit that it was built from.
        uefi_sha384: SHA-384 of the firmware's image.
        svn: The firmware's security version.
        measurements: The launch digest by number of virtual CPUs.
        policy: The guest policy that Google expects.
    """

    raw: bytes
    signed: bytes
    signature: bytes
    certificate: bytes
    chain: bytes
    made_at: datetime
    change: int
    commit: bytes
    uefi_sha384: bytes
    svn: int
    measurements: Mapping[int, bytes]
    policy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareClaims(Sealed):
    """What is proved of the firmware by its maker's endorsement.

    Attributes:
        endorser: Who endorses it: ``Google``.
        measurement: The launch digest.
        vcpus: Numbers of virtual CPUs that give this digest.
        svn: The firmware's security version.
        uefi_sha384: SHA-384 of the firmware's image, which Google publishes.
        made_at: When the endorsement was made.
        expires_at: When the certificate of the key that signed it expires.
        roots_kind: Which kind of roots it was verified under.
        anchor_sha256: SHA-256 of the root's certificate, in hex.
    """

    endorser: str
    measurement: bytes
    vcpus: tuple[int, ...]
    svn: int
    uefi_sha384: bytes
    made_at: datetime
    expires_at: datetime
    roots_kind: RootsKind
    anchor_sha256: str
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, SEAL)


def parse_firmware_endorsement(raw: bytes) -> FirmwareEndorsement:
    """Read an endorsement (VMLaunchEndorsement).

    Raises:
        MalformedEvidence: Another form, or an endorsement of no SEV-SNP firmware.
    """
    if len(raw) > _MAX_BYTES:
        raise _malformed("too large", f"{len(raw)} bytes")
    outer = Message(bytes(raw), name="google", id=_FORM)
    if outer.numbers != {1, 2}:
        raise _malformed("not a signed endorsement", f"fields {sorted(outer.numbers)[:8]}")
    signed = outer.octets(1)
    golden = Message(signed, name="google.1", id=_FORM)
    made, snp = golden.message(1), golden.message(7)
    if snp is None:
        raise _malformed("it endorses no SEV-SNP firmware", None)
    seconds = 0 if made is None else made.integer(1)
    if seconds > _LATEST:
        raise _malformed("not a time", str(seconds))
    digest = golden.octets(5)
    if len(digest) != _DIGEST_BYTES:
        raise _malformed("not a SHA-384 of the firmware", f"{len(digest)} bytes")
    return FirmwareEndorsement(
        raw=bytes(raw),
        signed=signed,
        signature=outer.octets(2),
        certificate=golden.octets(4),
        chain=golden.octets(6),
        made_at=_EPOCH + timedelta(seconds=seconds),
        change=golden.integer(2),
        commit=golden.octets(3),
        uefi_sha384=digest,
        svn=snp.integer(1),
        measurements=_measurements(snp),
        policy=snp.integer(5),
    )


def _measurements(snp: Message) -> Mapping[int, bytes]:
    """The map's entries: number of virtual CPUs and digest."""
    found: dict[int, bytes] = {}
    for entry in snp.messages(2):
        vcpus, digest = entry.integer(1), entry.octets(2)
        if vcpus in found or len(digest) != _DIGEST_BYTES:
            raise _malformed("a number of CPUs twice, or no launch digest", str(vcpus))
        found[vcpus] = digest
    return found


def verify_firmware(
    endorsement: bytes | FirmwareEndorsement,
    claims: Claims,
    *,
    at: datetime | str,
    certificates: Iterable[Certificate] = (),
    roots: RootsInput = None,
) -> FirmwareClaims:
    """Verify that Google endorses the firmware of a verified report.

    Args:
        endorsement: The endorsement, by whatever way it came.
        claims: What :func:`teeverify.snp.verify_report` proved of the report.
        at: The time for which it is verified.
        certificates: Certificates at hand, among which Google's root must be unless it came with
            the endorsement; it is recognised by its fingerprint.
        roots: Certificates of other roots than Google's, for tests and private authorities.

    Raises:
        MalformedEvidence: The endorsement or a certificate cannot be read.
        EndorsementUnavailable: The root's certificate is not at hand, or one is out of its dates.
        ChainInvalid: The key that signed was not certified by Google's root.
        SignatureInvalid: The endorsement was not signed by that key.
        EndorsementInvalid: It is the endorsement of other firmware.
    """
    moment, trusted = parse_time(at), as_roots(roots)
    # One that was built by hand may hold anything: what counts are its bytes.
    read = parse_firmware_endorsement(
        endorsement.raw if isinstance(endorsement, FirmwareEndorsement) else endorsement
    )
    root = _root(read, certificates, trusted)
    signer = parse_certificate(read.certificate, id=_CHAIN, what="the endorsement's certificate")
    _verify_signer(signer, root, moment)
    _verify(_key(signer, _SIGNATURE), read.signature, read.signed, _SIGNATURE, "the endorsement")
    vcpus = tuple(n for n, digest in read.measurements.items() if digest == claims.measurement)
    if not vcpus:
        raise EndorsementInvalid(
            "Google's endorsement is of other firmware than the report's",
            id=_MEASUREMENT,
            got=claims.measurement.hex(),
            want=f"one of the {len(read.measurements)} measurements endorsed",
        )
    return FirmwareClaims(
        endorser="Google",
        measurement=claims.measurement,
        vcpus=tuple(sorted(vcpus)),
        svn=read.svn,
        uefi_sha384=read.uefi_sha384,
        made_at=read.made_at,
        expires_at=min(signer.not_after, root.not_after),
        roots_kind=trusted.kind,
        anchor_sha256=root.sha256,
        seal=SEAL,
    )


def is_google_root(certificate: Certificate) -> bool:
    """Whether it is Google's root or has its name; what it is worth, a verification says."""
    return (
        certificate.sha256 == GCE_TCB_ROOT.certificate_sha256
        or certificate.common_name.startswith(GCE_TCB_ROOT.name)
    )


def _root(
    read: FirmwareEndorsement, certificates: Iterable[Certificate], roots: Roots
) -> Certificate:
    """The root's certificate among those at hand: only a fingerprint is written down."""
    along: tuple[Certificate, ...] = ()
    if read.chain:
        along = parse_pem_chain(read.chain, id=_FORM, what="the endorsement's certificates")
    named = [one for one in (*certificates, *along) if is_google_root(one)]
    good = [one for one in named if _is_anchor(one, roots)]
    if good:
        return good[0]
    if named:
        raise ChainInvalid(
            "the root certificate is not Google's but has its name only",
            id=_ROOT,
            got=f"certificate sha256:{named[0].sha256}",
            want=f"certificate sha256:{GCE_TCB_ROOT.certificate_sha256}"
            if roots.kind == "embedded"
            else "one of the roots in force",
            hint=foreign_root_hint(named[0].subject),
        )
    raise EndorsementUnavailable(
        "Google's root certificate is not at hand",
        id=_ROOT,
        want=f"certificate sha256:{GCE_TCB_ROOT.certificate_sha256}",
        hint=f"Pass --endorsements PATH with {GCE_TCB_ROOT.url}.",
    )


def _is_anchor(certificate: Certificate, roots: Roots) -> bool:
    if roots.kind == "embedded":
        return certificate.sha256 == GCE_TCB_ROOT.certificate_sha256
    # Sets of the caller's own hold the same anchors for every vendor.
    return any((one.subject, one.spki) == (certificate.subject, certificate.spki)
               for one in roots.amd)  # fmt: skip


def _verify_signer(signer: Certificate, root: Certificate, at: datetime) -> None:
    what = "Google's chain"
    if signer.issuer != root.subject or signer.subject == root.subject:
        raise ChainInvalid(
            "the endorsement's key was certified by another CA",
            id=_CHAIN,
            got=ascii(signer.issuer_common_name)[:80],
            want=root.common_name,
        )
    if not root.is_ca or "key_cert_sign" not in root.key_usage:
        raise ChainInvalid("Google's root certificate is not a CA's", id=_CHAIN)
    if signer.is_ca or signer.key_usage != {"digital_signature"}:
        raise ChainInvalid(
            "the endorsement's key is not one for signatures",
            id=_CHAIN,
            got=f"ca={signer.is_ca}, usage={sorted(signer.key_usage)}",
        )
    if signer.signed.algorithm != PSS_SHA256:
        raise ChainInvalid(
            "the endorsement's certificate is signed with another algorithm than Google's",
            id=_CHAIN,
            got=signer.signed.algorithm.hex()[:80],
            want="RSASSA-PSS with SHA-256",
        )
    _verify(
        _key(root, _CHAIN),
        signer.signed.signature,
        signer.signed.tbs,
        _CHAIN,
        "the certificate of the endorsement's key",
    )
    for certificate in (signer, root):
        verify_dates(certificate, at=at, id=_CHAIN, what=what)


def _key(certificate: Certificate, id: str) -> rsa.RSAPublicKey:
    key = certificate.public_key
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise ChainInvalid(
            f"the key of {certificate.common_name} is not RSA of {_MIN_RSA_BITS} bits or more",
            id=id,
        )
    return key


def _verify(key: rsa.RSAPublicKey, signature: bytes, message: bytes, id: str, what: str) -> None:
    try:
        key.verify(signature, message, _PSS, hashes.SHA256())
    except FOREIGN_ERRORS:
        raise SignatureInvalid(f"{what} is not signed by the key above it", id=id) from None


def _malformed(problem: str, got: str | None) -> MalformedEvidence:
    return MalformedEvidence(f"Google's endorsement: {problem}", id=_FORM, field=_FORM, got=got)

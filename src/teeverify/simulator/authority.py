"""A certificate authority in which every field can be set wrong, one at a time.

The defaults make what a careful vendor would issue (RFC 5280), so that a test which overrides one
field breaks exactly that one thing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from teeverify.clock import UTC
from teeverify.errors import ConfigurationError

__all__ = [
    "SIMULATOR",
    "Authority",
    "Curve",
    "Extension",
    "PrivateKey",
    "PublicKey",
    "SigningHash",
    "new_key",
    "sign_raw",
]

SIMULATOR = "teeverify simulator"
NOT_BEFORE = datetime(2024, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)

Curve: TypeAlias = Literal["p256", "p384", "p521", "rsa"]
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
SigningHash: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
# Either a typed extension, or the dotted OID and the raw DER value; then whether it is critical.
Extension: TypeAlias = tuple[x509.ExtensionType, bool] | tuple[str, bytes, bool]

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
}
_HASHES: dict[int, SigningHash] = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def new_key(curve: Curve = "p256", *, bits: int = 2048) -> PrivateKey:
    """Make a random private key.

    Args:
        curve: The curve, or ``rsa``.
        bits: Size of an RSA key; ignored for curves.
    """
    if curve == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return ec.generate_private_key(_CURVES[curve]())


def sign_raw(
    key: PrivateKey, message: bytes, *, hash_algorithm: SigningHash | None = None
) -> bytes:
    """Sign with ECDSA and give the signature as fixed-width ``r || s``.

    Args:
        key: An elliptic-curve key.
        message: What to sign; it is hashed here.
        hash_algorithm: Another hash than the curve's own.

    Raises:
        ConfigurationError: The key is no elliptic-curve key.
    """
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("raw signatures need a curve key", id="usage.simulator")
    chosen = hash_algorithm or _HASHES[key.key_size]
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(chosen)))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and the key that belongs to it.

    Whether it may issue is only what its certificate says: a leaf can be made to issue too, for
    the tests that must refuse what it issued.

    Attributes:
        certificate: The certificate.
        private_key: Its key, or ``None`` where only the public key was handed over.
    """

    certificate: x509.Certificate
    private_key: PrivateKey | None

    @classmethod
    def root(  # noqa: PLR0913 -- every field can be overridden
        cls,
        common_name: str,
        *,
        curve: Curve = "p256",
        organisation: str | None = SIMULATOR,
        subject: x509.Name | None = None,
        issuer: x509.Name | None = None,
        serial: int | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime = NOT_AFTER,
        ca: bool | None = True,
        path_length: int | None = None,
        key_usage: Iterable[str] | None = ("key_cert_sign", "crl_sign"),
        extensions: Iterable[Extension] = (),
        key: PrivateKey | None = None,
        signer: PrivateKey | None = None,
        signing_hash: SigningHash | None = None,
    ) -> Authority:
        """Make a self-signed root with a random key.

        Args:
            common_name: ``CN`` of the subject; the vendor's role demands it.
            curve: Kind of the key.
            organisation: ``O`` of the subject; ``None`` leaves it out.
            subject: The whole subject name instead of the two above.
            issuer: Another issuer name than the subject.
            serial: The serial number instead of a random one.
            not_before: First moment of validity.
            not_after: Last moment of validity.
            ca: The CA flag; ``None`` leaves basic constraints out.
            path_length: Path length constraint.
            key_usage: Key usages by their names in ``cryptography``; ``None`` leaves them out.
            extensions: More extensions.
            key: A key of the caller's instead of a random one.
            signer: Sign with this key instead of the root's own.
            signing_hash: Sign with another hash than the key's own.
        """
        own = key or new_key(curve)
        name = subject or _name(common_name, organisation)
        builder = _builder(name, issuer or name, own.public_key(), not_before, not_after, serial)
        builder = _constrain(builder, ca=ca, path_length=path_length, key_usage=key_usage)
        builder = _extend(builder, extensions)
        return cls(_sign(builder, signer or own, signing_hash), own)

    def issue(  # noqa: PLR0913 -- every field can be overridden
        self,
        common_name: str,
        *,
        curve: Curve | None = None,
        organisation: str | None = SIMULATOR,
        subject: x509.Name | None = None,
        issuer: x509.Name | None = None,
        serial: int | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime = NOT_AFTER,
        ca: bool | None = False,
        path_length: int | None = None,
        key_usage: Iterable[str] | Literal["default"] | None = "default",
        extensions: Iterable[Extension] = (),
        key: PrivateKey | None = None,
        public_key: PublicKey | None = None,
        signer: PrivateKey | None = None,
        signing_hash: SigningHash | None = None,
    ) -> Authority:
        """Issue a certificate; with ``ca=True`` the result may issue in turn.

        Args:
            common_name: ``CN`` of the subject.
            curve: Kind of the new key; the issuer's own kind by default.
            organisation: ``O`` of the subject; ``None`` leaves it out.
            subject: The whole subject name instead of the two above.
            issuer: Another issuer name than this authority's subject.
            serial: The serial number instead of a random one.
            not_before: First moment of validity.
            not_after: Last moment of validity.
            ca: The CA flag; ``None`` leaves basic constraints out.
            path_length: Path length constraint.
            key_usage: Key usages by their names in ``cryptography``; ``None`` leaves them out. By
                default what a CA or a signing leaf needs.
            extensions: More extensions.
            key: A key of the caller's instead of a random one.
            public_key: Only a public key; the result then cannot sign.
            signer: Sign with this key instead of the authority's own.
            signing_hash: Sign with another hash than the signing key's own.

        Raises:
            ConfigurationError: This authority has no private key.
        """
        own = key
        if own is None and public_key is None:
            own = new_key(curve or _curve_of(self.certificate))
        chosen = own.public_key() if own is not None else public_key
        name = subject or _name(common_name, organisation)
        above = issuer or self.certificate.subject
        builder = _builder(name, above, chosen, not_before, not_after, serial)
        if key_usage == "default":
            key_usage = ("key_cert_sign", "crl_sign") if ca else ("digital_signature",)
        builder = _constrain(builder, ca=ca, path_length=path_length, key_usage=key_usage)
        builder = builder.add_extension(self._key_identifier(), critical=False)
        builder = _extend(builder, extensions)
        return Authority(_sign(builder, signer or self.key, signing_hash), own)

    def crl(  # noqa: PLR0913 -- every field can be overridden
        self,
        revoked: Iterable[int] = (),
        *,
        number: int | None = 1,
        this_update: datetime = NOT_BEFORE,
        next_update: datetime = NOT_AFTER,
        issuer: x509.Name | None = None,
        key_identifier: bool = True,
        extensions: Iterable[Extension] = (),
        entry_extensions: Iterable[Extension] = (),
        signer: PrivateKey | None = None,
        signing_hash: SigningHash | None = None,
    ) -> bytes:
        """Sign a certificate revocation list.

        Args:
            revoked: Serial numbers listed.
            number: The CRL number; ``None`` leaves it out.
            this_update: When it was made.
            next_update: When the next one is due.
            issuer: Another issuer name than this authority's subject.
            key_identifier: Whether the authority key identifier is there.
            extensions: More extensions of the list.
            entry_extensions: Extensions of every entry.
            signer: Sign with this key instead of the authority's own.
            signing_hash: Sign with another hash than the signing key's own.

        Returns:
            The list in DER.

        Raises:
            ConfigurationError: This authority has no private key.
        """
        builder = x509.CertificateRevocationListBuilder().issuer_name(
            issuer or self.certificate.subject
        )
        builder = builder.last_update(this_update).next_update(next_update)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            entry = entry.revocation_date(this_update)
            for extension, critical in map(_typed, entry_extensions):
                entry = entry.add_extension(extension, critical)
            builder = builder.add_revoked_certificate(entry.build())
        if key_identifier:
            builder = builder.add_extension(self._key_identifier(), critical=False)
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for extension, critical in map(_typed, extensions):
            builder = builder.add_extension(extension, critical)
        key = signer or self.key
        return builder.sign(key, signing_hash or _own_hash(key)).public_bytes(Encoding.DER)

    def sign_raw(self, message: bytes, *, hash_algorithm: SigningHash | None = None) -> bytes:
        """Sign with this key; see :func:`sign_raw`.

        Raises:
            ConfigurationError: There is no private key, or it is no elliptic-curve key.
        """
        return sign_raw(self.key, message, hash_algorithm=hash_algorithm)

    @property
    def key(self) -> PrivateKey:
        """The private key.

        Raises:
            ConfigurationError: Only the public key was handed over.
        """
        if self.private_key is None:
            raise ConfigurationError("this certificate has no private key", id="usage.simulator")
        return self.private_key

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM, with a final line feed."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def public_bytes(self) -> bytes:
        """The public point as ``x || y`` (for a curve key), as quotes carry it.

        Raises:
            ConfigurationError: The key is no elliptic-curve key.
        """
        public = self.certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ConfigurationError("only a curve key is a point", id="usage.simulator")
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _name(common_name: str, organisation: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: PublicKey | None,
    not_before: datetime,
    not_after: datetime,
    serial: int | None,
) -> x509.CertificateBuilder:
    if public_key is None:
        raise ConfigurationError("a certificate needs a key", id="usage.simulator")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _constrain(
    builder: x509.CertificateBuilder,
    *,
    ca: bool | None,
    path_length: int | None,
    key_usage: Iterable[str] | None,
) -> x509.CertificateBuilder:
    if ca is not None:
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length)
        builder = builder.add_extension(constraints, critical=True)
    if key_usage is not None:
        chosen = frozenset(key_usage)
        usage = x509.KeyUsage(**{name: name in chosen for name in _KEY_USAGES})
        builder = builder.add_extension(usage, critical=True)
    return builder


def _extend(
    builder: x509.CertificateBuilder, extensions: Iterable[Extension]
) -> x509.CertificateBuilder:
    for extension, critical in map(_typed, extensions):
        builder = builder.add_extension(extension, critical)
    return builder


def _typed(extension: Extension) -> tuple[x509.ExtensionType, bool]:
    if len(extension) == 2:  # noqa: PLR2004 -- the typed form
        return extension
    oid, value, critical = extension
    return x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical


def _curve_of(certificate: x509.Certificate) -> Curve:
    public = certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey) and public.key_size == 256:  # noqa: PLR2004
        return "p256"
    return "p384"


def _own_hash(key: PrivateKey) -> SigningHash:
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else _HASHES[key.key_size]


def _sign(
    builder: x509.CertificateBuilder, key: PrivateKey, signing_hash: SigningHash | None
) -> x509.Certificate:
    return builder.sign(key, signing_hash or _own_hash(key))

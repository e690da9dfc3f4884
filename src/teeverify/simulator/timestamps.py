"""A fake timestamping authority (RFC 3161), every part of whose tokens a test can spoil."""

from __future__ import annotations

import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from teeverify.crypto.der_writer import element, integer, octets, sequence
from teeverify.simulator.authority import Authority, PrivateKey

__all__ = ["TimestampAuthority"]

_OID, _TIME, _SET, _CONTEXT_0 = 0x06, 0x18, 0x31, 0xA0
_SHA256 = bytes.fromhex("608648016503040201")
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")
_POLICY = bytes.fromhex("2a0304")
_ECDSA_SHA256 = bytes.fromhex("2a8648ce3d040302")
_RSA_SHA256 = bytes.fromhex("2a864886f70d01010b")


def _algorithm(oid: bytes) -> bytes:
    return sequence(element(_OID, oid))


class TimestampAuthority:
    """A CA and one authority under it, with random keys.

    Args:
        name: The authority's common name.
        ca_name: The CA's.
        usages: Its extended key usages.
        critical: Whether they are marked critical, as RFC 3161 section 2.3 demands.
        rsa_keys: Both keys are RSA, as those of public authorities are.
    """

    def __init__(
        self,
        name: str = "teeverify simulator TSA",
        *,
        ca_name: str = "teeverify simulator TSA CA",
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.TIME_STAMPING,),
        critical: bool = True,
        rsa_keys: bool = False,
    ) -> None:
        keys: tuple[PrivateKey | None, PrivateKey | None] = (None, None)
        if rsa_keys:
            keys = (rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048))
        self.ca = Authority.root(ca_name, key=keys[0])
        self.signer = self.ca.issue(
            name,
            curve="p256",
            key=keys[1],
            key_usage=("digital_signature",),
            extensions=[(x509.ExtendedKeyUsage(usages), critical)],
        )

    def roots_pem(self) -> bytes:
        """The CA's certificate."""
        return self.ca.pem

    def stamp(  # noqa: PLR0913 -- every part can be overridden
        self,
        digest: bytes,
        at: datetime,
        *,
        status: int = 0,
        imprint: bytes | None = None,
        imprint_algorithm: bytes = _SHA256,
        version: int = 1,
        accuracy: bytes = b"",
        time: bytes | None = None,
        content_type: bytes = _TST_INFO,
        message_digest: bytes | None = None,
        named: bytes | None = None,
        with_certificate: bool = True,
        signer: Authority | None = None,
        more_attributes: bytes = b"",
    ) -> bytes:
        """Answer a request for a timestamp of a SHA-256 hash.

        Args:
            digest: The hash.
            at: The time to state.
            status: The answer's status; 0 is granted.
            imprint: Another hash inside the token.
            imprint_algorithm: Another hash algorithm of it.
            version: Version of the TSTInfo.
            accuracy: DER of an accuracy.
            time: The stated time as text.
            content_type: Another content type among the signed attributes.
            message_digest: Another digest among them.
            named: Another certificate hash among them.
            with_certificate: Whether the signer's certificate goes with it.
            signer: Whose key signs instead.
            more_attributes: DER of further signed attributes.

        Returns:
            ``TimeStampResp`` in DER.
        """
        info = sequence(
            integer(version),
            element(_OID, _POLICY),
            sequence(_algorithm(imprint_algorithm), octets(digest if imprint is None else imprint)),
            integer(7),
            element(_TIME, time or at.strftime("%Y%m%d%H%M%SZ").encode("ascii")),
            accuracy,
        )
        named = named or hashlib.sha256(self.signer.der).digest()
        attributes = b"".join((
            _attribute(_CONTENT_TYPE, element(_OID, content_type)),
            _attribute(_MESSAGE_DIGEST, octets(message_digest or hashlib.sha256(info).digest())),
            _attribute(_SIGNING_CERTIFICATE_V2, sequence(sequence(sequence(octets(named))))),
            more_attributes,
        ))  # fmt: skip
        token = self._token(
            info, attributes, signer or self.signer, with_certificate=with_certificate
        )
        return sequence(sequence(integer(status)), token)

    def _token(
        self, info: bytes, attributes: bytes, signer: Authority, *, with_certificate: bool
    ) -> bytes:
        certificate = self.signer.certificate
        algorithm, signature = _sign(signer.key, element(_SET, attributes))
        signer_info = sequence(
            integer(1),
            sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number)),
            _algorithm(_SHA256),
            element(_CONTEXT_0, attributes),
            _algorithm(algorithm),
            octets(signature),
        )
        data = sequence(
            integer(3),
            element(_SET, _algorithm(_SHA256)),
            sequence(element(_OID, _TST_INFO), element(_CONTEXT_0, octets(info))),
            element(_CONTEXT_0, self.signer.der) if with_certificate else b"",
            element(_SET, signer_info),
        )
        return sequence(element(_OID, _SIGNED_DATA), element(_CONTEXT_0, data))


def _attribute(oid: bytes, value: bytes) -> bytes:
    return sequence(element(_OID, oid), element(_SET, value))


def _sign(key: PrivateKey, message: bytes) -> tuple[bytes, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA_SHA256, key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return _ECDSA_SHA256, key.sign(message, ec.ECDSA(hashes.SHA256()))

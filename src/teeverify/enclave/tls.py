"""TLS that ends in the enclave: a key made here, and a certificate that says whose it is.

The key is made in memory, once a process, and never leaves it. Dialects put its fingerprint into
what the CPU's evidence binds; on Intel TDX the certificate itself carries a quote of it too (RA-TLS
as dstack has it, extensions under 1.3.6.1.4.1.62397.1). That nobody else signed it does not matter
to those who verify: what counts is the key that is attested.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import re
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from teeverify.clock import now
from teeverify.enclave.collectors import Tee
from teeverify.errors import ConfigurationError

__all__ = ["EnclaveTls"]

_QUOTE, _EVENT_LOG = "1.3.6.1.4.1.62397.1.1", "1.3.6.1.4.1.62397.1.2"
_TAG = b"ratls-cert:"
_RUNTIME_REGISTER = 3
_BEFORE, _AFTER = timedelta(hours=1), timedelta(days=365)
_OCTET_STRING = 0x04
_SHORT = 0x80
# RFC 1034, 3.5, with the underscore that names of containers have; RFC 6125, 6.4.3: a wildcard.
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*")


class EnclaveTls:
    """One key and its certificate.

    Args:
        tee: The machine that vouches for the key.
        names: Names and addresses at which clients reach the server.

    Raises:
        ConfigurationError: A certificate cannot carry one of the names.
        EndpointUnavailable: The machine gives no quote.
    """

    def __init__(self, tee: Tee, names: Sequence[str]) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        spki = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.spki_sha256 = hashlib.sha256(spki).digest()
        self.certificate = self._sign(_evidence(tee, spki), names).public_bytes(Encoding.PEM)

    def context(self) -> ssl.SSLContext:
        """What a server listens with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        password = secrets.token_bytes(32).hex().encode("ascii")
        pem = self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
        )
        # OpenSSL reads files only. In this one the key is encrypted, and its password is here only.
        with tempfile.TemporaryDirectory(prefix="teeverify-") as folder:
            file = Path(folder) / "tls.pem"
            file.write_bytes(pem + self.certificate)
            context.load_cert_chain(file, password=password)
        return context

    def _sign(
        self, evidence: Sequence[x509.UnrecognizedExtension], names: Sequence[str]
    ) -> x509.Certificate:
        # A name of its own: who trusts several certificates finds each by its name.
        common = f"teeverify enclave {self.spki_sha256.hex()[:16]}"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        moment = now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - _BEFORE)
            .not_valid_after(moment + _AFTER)
            .add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), False)  # noqa: FBT003 -- by place only
        )
        for extension in evidence:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _evidence(tee: Tee, spki: bytes) -> list[x509.UnrecognizedExtension]:
    """The quote of the key, and the guest's own events; nothing on other CPUs."""
    if tee.platform != "tdx":
        return []
    cpu = tee.quote(hashlib.sha512(_TAG + spki).digest())
    found = [_extension(_QUOTE, cpu.quote)]
    # The firmware's events are long, and say nothing about the application.
    events = [event for event in cpu.event_log if event.get("imr") == _RUNTIME_REGISTER]
    if events:
        found.append(_extension(_EVENT_LOG, json.dumps(events).encode("ascii")))
    return found


def _extension(oid: str, content: bytes) -> x509.UnrecognizedExtension:
    """An OCTET STRING (X.690, 8.7)."""
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    head = bytes([size]) if size < _SHORT else bytes([_SHORT | len(length)]) + length
    value = bytes([_OCTET_STRING]) + head + content
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def _name(text: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(text))
    if not _DNS_NAME.fullmatch(text):
        raise ConfigurationError(
            "a certificate cannot carry this name",
            id="usage.serve",
            got=repr(text)[:200],
            want="a DNS name or an IP address",
        )
    return x509.DNSName(text)

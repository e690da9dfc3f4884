"""The certificates of a fake AMD, in DER written by hand where libraries refuse what AMD issues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from teeverify.crypto.der_writer import element, integer, octets, sequence
from teeverify.crypto.signed import PSS_ALGORITHMS
from teeverify.simulator.authority import SIMULATOR

__all__ = ["LEAF_EXTENSIONS", "authority", "leaf", "leaf_extensions", "pss_sign", "revocation_list"]

_ARC = "1.3.6.1.4.1.3704.1"
_SHA384 = hashes.SHA384()
_PSS = padding.PSS(padding.MGF1(_SHA384), 48)
# The last arc of each component's extension.
LEAF_EXTENSIONS: Mapping[str, Mapping[str, int]] = {
    "classic": {"bootloader": 1, "tee": 2, "snp": 3, "spl4": 4, "spl5": 5, "spl6": 6, "spl7": 7,
                "microcode": 8},
    "turin": {"bootloader": 1, "tee": 2, "snp": 3, "spl5": 5, "spl6": 6, "spl7": 7, "microcode": 8,
              "fmc": 9},
}  # fmt: skip


def pss_sign(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """Sign as AMD's CAs do."""
    return key.sign(message, _PSS, _SHA384)


def name_of(common_name: str) -> x509.Name:
    """A name like AMD's, but for the organisation."""
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, SIMULATOR),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ])  # fmt: skip


def authority(  # noqa: PLR0913 -- every field can be overridden
    *,
    common_name: str,
    issuer_name: str,
    key: rsa.RSAPrivateKey,
    signer: rsa.RSAPrivateKey,
    serial: int,
    not_before: datetime,
    not_after: datetime,
    ca: bool = True,
    path_length: int | None = None,
    key_usage: Iterable[str] = ("key_cert_sign",),
    pss: bool = True,
    public_key: Any = None,  # noqa: ANN401 -- any key, also one that a CA must not have
) -> bytes:
    """A root (ARK) or an intermediate (ASK, ASVK), in DER."""
    usages = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    chosen = frozenset(key_usage)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(common_name))
        .issuer_name(name_of(issuer_name))
        .public_key(public_key or key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in chosen for usage in usages}), critical=True)
    )
    certificate = builder.sign(signer, _SHA384, rsa_padding=_PSS if pss else None)
    return certificate.public_bytes(Encoding.DER)


def revocation_list(
    *,
    issuer_name: str,
    signer: rsa.RSAPrivateKey,
    this_update: datetime,
    next_update: datetime,
    revoked: Iterable[int] = (),
    number: int | None = 1,
) -> bytes:
    """A revocation list of a root, in DER."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(name_of(issuer_name))
    builder = builder.last_update(this_update).next_update(next_update)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(this_update).build())
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    return builder.sign(signer, _SHA384, rsa_padding=_PSS).public_bytes(Encoding.DER)


def leaf_extensions(  # noqa: PLR0913 -- every field can be overridden
    *,
    layout: str,
    struct_version: int,
    product_name: str,
    tcb: Mapping[str, int],
    hwid: bytes | None,
    csp_id: str | None,
    wrap_hwid: bool = False,
) -> list[tuple[str, bytes]]:
    """AMD's extensions of a VCEK or VLEK, each as dotted OID and value."""
    found = [
        (f"{_ARC}.1", integer(struct_version)),
        (f"{_ARC}.2", element(0x16, product_name.encode())),
    ]
    found += [
        (f"{_ARC}.3.{number}", integer(tcb.get(name, 0)))
        for name, number in LEAF_EXTENSIONS[layout].items()
    ]
    if hwid is not None:
        found.append((f"{_ARC}.4", octets(hwid) if wrap_hwid else hwid))
    if csp_id is not None:
        found.append((f"{_ARC}.5", element(0x16, csp_id.encode())))
    return found


def leaf(  # noqa: PLR0913 -- every field can be overridden
    *,
    common_name: str,
    issuer_name: str,
    public_key: ec.EllipticCurvePublicKey,
    signer: rsa.RSAPrivateKey,
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[tuple[str, bytes]],
    serial: int = 0,
    critical: Iterable[str] = (),
    algorithm: bytes = PSS_ALGORITHMS[0],
    version: int = 2,
) -> bytes:
    """The certificate of a VCEK or VLEK in DER, with the serial number 0 that AMD gives it."""
    marked = frozenset(critical)
    items = [
        sequence(_oid(oid), b"\x01\x01\xff" if oid in marked else b"", octets(value))
        for oid, value in extensions
    ]
    tbs = sequence(
        element(0xA0, integer(version)),
        integer(serial),
        algorithm,
        name_of(issuer_name).public_bytes(),
        sequence(_time(not_before), _time(not_after)),
        name_of(common_name).public_bytes(),
        public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        element(0xA3, sequence(*items)),
    )
    return sequence(tbs, algorithm, element(0x03, b"\0", pss_sign(signer, tbs)))


def _time(moment: datetime) -> bytes:
    return element(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def _oid(dotted: str) -> bytes:
    return element(0x06, _arcs(dotted))


def _arcs(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytes([first * 40 + second])
    for arc in rest:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        out += bytes(reversed(septets))
    return out

"""Where providers serve the key to which requests are encrypted: lists of keys, certificates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from teeverify.crypto.certificates import Certificate
from teeverify.crypto.der import SEQUENCE, DerReader
from teeverify.encoding.base32 import base32_bytes
from teeverify.encoding.reader import Reader
from teeverify.errors import BindingMismatch, MalformedEvidence

__all__ = ["hpke_key_of_configs", "hpke_key_of_names"]

_ID = "report"
_X25519 = 0x0020
_KEY_BYTES = 32
_SUITE_BYTES = 4
_ALTERNATIVE_NAMES = "2.5.29.17"
_DNS_NAME = 0x82  # context 2, X.509 GeneralName
_LABEL = re.compile(r"([0-9]{2})([a-z2-7]+)\.(hpke|hatt)\.[a-z0-9.-]+")


def hpke_key_of_configs(raw: bytes) -> bytes:
    """The X25519 key of a list of key configurations (RFC 9458 section 3, ``ohttp-keys``).

    Raises:
        MalformedEvidence: Another form, or not exactly one key of this kind.
    """
    reader = Reader(raw, name="hpke-keys", id=_ID)
    found: list[bytes] = []
    while reader.remaining:
        config = Reader(
            reader.take(_big_endian(reader, "length"), "config"), name="hpke-keys", id=_ID
        )
        config.u8("key_id")
        kem = _big_endian(config, "kem_id")
        if kem == _X25519:
            found.append(config.take(_KEY_BYTES, "public_key"))
            suites = _big_endian(config, "suites")
            config.take(suites - suites % _SUITE_BYTES, "suites")
            config.finish()
    if len(found) != 1:
        raise MalformedEvidence(
            "hpke-keys: not exactly one X25519 key", id=_ID, field="hpke-keys", have=len(found)
        )
    return found[0]


def _big_endian(reader: Reader, field: str) -> int:
    return int.from_bytes(reader.take(2, field), "big")


def hpke_key_of_names(certificate: Certificate, document: bytes) -> bytes:
    """The HPKE key in the names of an enclave's certificate (Tinfoil's ``dcode`` labels).

    Names ``NN<base32>.hpke.DOMAIN`` hold the key in pieces, and ``NN<base32>.hatt.DOMAIN`` the hex
    digits of the SHA-256 of the document that the certificate was asked for with.

    Raises:
        MalformedEvidence: There are no such names, or they are incomplete.
        BindingMismatch: The certificate is another document's.
    """
    pieces: dict[str, dict[int, str]] = {"hpke": {}, "hatt": {}}
    for name in _dns_names(certificate):
        match = _LABEL.fullmatch(name)
        if match is None:
            continue
        number, text, kind = int(match[1]), match[2], match[3]
        if number in pieces[kind]:
            raise _malformed(f"two names number {number} for {kind}")
        pieces[kind][number] = text
    key = _joined(pieces["hpke"], "hpke")
    stated = _joined(pieces["hatt"], "hatt")
    digest = hashlib.sha256(document).hexdigest().encode("ascii")
    if stated != digest:
        raise BindingMismatch(
            "the enclave's certificate was made for another document",
            id="endpoint.bound",
            got=stated.decode("latin-1"),
            want=digest.decode("ascii"),
        )
    if len(key) != _KEY_BYTES:
        raise _malformed(f"the HPKE key has {len(key)} bytes")
    return key


def _joined(pieces: dict[int, str], kind: str) -> bytes:
    if sorted(pieces) != list(range(len(pieces))) or not pieces:
        raise _malformed(f"names for {kind} are missing")
    text = "".join(pieces[number] for number in sorted(pieces))
    return base32_bytes(text, field=f"certificate.{kind}", id=_ID)


def _dns_names(certificate: Certificate) -> Iterable[str]:
    raw = certificate.extension(_ALTERNATIVE_NAMES)
    if raw is None:
        raise _malformed("it has no alternative names")
    outer = DerReader(raw, name="certificate.names", id=_ID)
    names = outer.nested(SEQUENCE, "names")
    outer.finish()
    while names.remaining:
        tag, value = names.any("name")
        if tag == _DNS_NAME:
            yield value.decode("ascii", "replace")


def _malformed(problem: str) -> MalformedEvidence:
    return MalformedEvidence(
        f"the enclave's certificate: {problem}", id=_ID, field="certificate.names"
    )

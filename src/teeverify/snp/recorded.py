"""Reading AMD's certificates and lists from where people keep them. Nothing is verified."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from teeverify.crypto.crl import Crl, parse_crl
from teeverify.crypto.der import CONTEXT_0, INTEGER, SEQUENCE, DerReader
from teeverify.crypto.pem import pem_blocks
from teeverify.crypto.x509 import Certificate, parse_certificate
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, utf8_text
from teeverify.endorsements import (
    Answer,
    Exchange,
    is_directory,
    list_files,
    read_bundle,
    read_exchanges,
    read_file,
)
from teeverify.errors import MalformedEvidence, TeeVerifyError
from teeverify.roots.google import GCE_TCB_ROOT
from teeverify.snp.certificates import Leaf, common_name, parse_leaf, product_of_authority
from teeverify.snp.google import parse_firmware_endorsement
from teeverify.snp.product import Product
from teeverify.snp.table import is_certificate_table, parse_certificate_table

__all__ = ["Found", "read_answer", "read_bytes", "read_path"]

CHECK = "snp.endorsements"
CA_CHAIN = "snp.ca-chain"
CRL = "snp.crl"
_MAX_BLOCKS = 16
_MAX_PLAIN = 256 * 1024
_DER_SEQUENCE = b"\x30"
_BASE64_OBJECT = (b"eyJ", b"ewo", b"ew0K", b"eyAi")  # of JSON, however it is laid out
_FIRST_FIELD = b"\x0a"  # of Google's endorsements: bytes
_PEM = b"-----BEGIN "
# Looked for as bytes, to sort what is not AMD's out quickly: reading a name is a third of the time
# that reading a certificate takes. What is kept is read strictly.
_LEAF_NAMES = (b"SEV-VCEK", b"SEV-VLEK")
_GOOGLE_ROOT = GCE_TCB_ROOT.name.encode()
_ROOT_NAMES = tuple(f"ARK-{product}".encode() for product in Product)
_PLAIN = (".pem", ".crt", ".cer", ".der", ".crl", ".binarypb")
_TABLES = ("auxblob", "certtable", "cert_table", "certificate_table")
_ASKED = re.compile(
    r"/(?:vcek|vlek)/v1/(?:Milan|Genoa|Turin)/(?:cert_chain|crl|cert|[0-9a-f]{16,128})"
    r"|/gce_tcb_integrity/ovmf_x64_csm/sevsnp/[0-9a-f]{96}\.binarypb"
    r"|/cloud_integrity/GCE-cc-tcb-root_[0-9]+\.crt"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Pieces of AMD's endorsements, read strictly and not verified.

    Attributes:
        leaves: Certificates of VCEKs and VLEKs.
        authorities: Certificates of roots (ARK) and intermediates (ASK, ASVK).
        crls: Revocation lists.
        firmware: Google's endorsements of firmware, as they came.
        firmware_roots: Certificates with the name of Google's root.
    """

    leaves: tuple[Leaf, ...] = ()
    authorities: tuple[Certificate, ...] = ()
    crls: tuple[Crl, ...] = ()
    firmware: tuple[bytes, ...] = ()
    firmware_roots: tuple[Certificate, ...] = ()

    @classmethod
    def union(cls, several: Iterable[Found]) -> Found:
        """All pieces, each once."""
        parts = list(several)
        return cls(
            leaves=tuple(dict.fromkeys(leaf for part in parts for leaf in part.leaves)),
            authorities=tuple(dict.fromkeys(one for part in parts for one in part.authorities)),
            crls=tuple(dict.fromkeys(crl for part in parts for crl in part.crls)),
            firmware=tuple(dict.fromkeys(one for part in parts for one in part.firmware)),
            firmware_roots=tuple(
                dict.fromkeys(one for part in parts for one in part.firmware_roots)
            ),
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing."""
        return self == Found()


def read_bytes(raw: bytes) -> Found:
    """Read one file's bytes, by their form.

    PEM, one certificate or list in DER, a certificate table, Google's endorsement of a firmware,
    Azure's JSON (in base64 too, as container instances have it), or a bundle of kept answers.

    Raises:
        MalformedEvidence: None of these, or a piece cannot be read.
    """
    start = raw.lstrip()
    if start.startswith(_PEM):
        return Found.union(_pem(raw))
    if start.startswith(b"{"):
        return _json(raw)
    if start.startswith(_BASE64_OBJECT):
        text = utf8_text(raw, field="endorsements", id=CHECK)
        return _json(base64_bytes("".join(text.split()), field="endorsements", id=CHECK))
    if raw.startswith(_DER_SEQUENCE):
        return _der(raw)
    if is_certificate_table(raw) or (raw and not any(raw)):
        return _table(raw)
    if raw.startswith(_FIRST_FIELD):
        return Found(firmware=(parse_firmware_endorsement(raw).raw,))
    raise MalformedEvidence(
        "endorsements: no form that is known here",
        id=CHECK,
        field="endorsements",
        got=f"{len(raw)} bytes starting {raw[:8].hex() or '(empty)'}",
        want="PEM, DER, a certificate table, Azure's JSON, or Google's endorsement of a firmware",
    )


def read_path(path: Path) -> Found:
    """Read one file, or a directory of recorded exchanges and plain files.

    Raises:
        ConfigurationError: There is nothing at the path, or it cannot be read.
        MalformedEvidence: A piece of AMD's cannot be read.
    """
    if not is_directory(path):
        return read_bytes(read_file(path))
    exchanges = [_exchange(exchange) for exchange in read_exchanges(path)]
    return Found.union([*exchanges, *(_plain(file) for file in list_files(path))])


def read_answer(answer: Answer) -> Found:
    """Read a kept answer, if it is one about AMD's chips or Google's firmware.

    Raises:
        MalformedEvidence: It is, and cannot be read.
    """
    return read_bytes(answer.body) if _ASKED.fullmatch(answer.path) else Found()


def _exchange(exchange: Exchange) -> Found:
    """A recorded answer of AMD's key service; what was not asked of it is not there."""
    if not exchange.ok or not _ASKED.fullmatch(exchange.path):
        return Found()
    return read_bytes(exchange.body())


def _plain(file: Path) -> Found:
    """A plain file, where it is of AMD. Of other files that cannot be read nothing is said."""
    name = file.name.lower()
    if name.endswith((".http.json", ".body")):
        return Found()
    table = any(word in name.replace("-", "_") for word in _TABLES)
    if not table and not name.endswith(_PLAIN):
        return Found()
    raw = read_file(file)
    ours = table or any(word in name for word in ("vcek", "vlek", "ask", "asvk", "ark"))
    return _or_nothing(lambda: read_bytes(raw), ours=ours)


def _or_nothing(read: Callable[[], Found], *, ours: bool) -> Found:
    """What was read; nothing, where a file that need not be AMD's cannot be read."""
    try:
        return read()
    except TeeVerifyError:
        if ours:
            raise
        return Found()


def _pem(raw: bytes) -> Iterator[Found]:
    """Every block of a PEM text that holds certificates, or one that holds a list."""
    if b"X509 CRL" in raw:
        for block in pem_blocks(raw, "X509 CRL", id=CRL, what="CRL", max_blocks=_MAX_BLOCKS):
            yield _der(block)
        return
    what = "certificates"
    for block in pem_blocks(raw, "CERTIFICATE", id=CHECK, what=what, max_blocks=_MAX_BLOCKS):
        yield _der(block)


def _der(raw: bytes) -> Found:
    """One certificate or list in DER; what is not AMD's is nothing."""
    outer = DerReader(raw, name="endorsements", id=CHECK)
    tbs = outer.nested(SEQUENCE, "signed").nested(SEQUENCE, "tbs")
    if tbs.next_tag() == INTEGER:
        crl = parse_crl(raw, id=CRL, what="AMD's revocation list")
        ours = any(name in crl.issuer for name in _ROOT_NAMES)
        return Found(crls=(crl,)) if ours else Found()
    if tbs.optional(CONTEXT_0, "version") is not None:
        tbs.integer("serial")
        tbs.encoded(SEQUENCE, "algorithm")
        tbs.encoded(SEQUENCE, "issuer")
        tbs.encoded(SEQUENCE, "validity")
    subject = tbs.encoded(SEQUENCE, "subject")
    # Not the CA of the clouds' keys, which is called SEV-VLEK-Milan and so on.
    if any(name in subject and name + b"-" not in subject for name in _LEAF_NAMES):
        return Found(leaves=(parse_leaf(raw),))
    if _is_authority(subject):
        return Found(
            authorities=(parse_certificate(raw, id=CA_CHAIN, what="a certificate of AMD's CAs"),)
        )
    if (
        _GOOGLE_ROOT in subject
        or hashlib.sha256(raw).hexdigest() == GCE_TCB_ROOT.certificate_sha256
    ):
        return Found(
            firmware_roots=(parse_certificate(raw, id="google.root", what="Google's root"),)
        )
    return Found()


def _is_authority(name: bytes) -> bool:
    return product_of_authority(common_name(name, id=CHECK)) is not None


def _table(raw: bytes) -> Found:
    """What a host put there; its endorsement of the firmware is not needed, so it is read later."""
    table = parse_certificate_table(raw)
    return Found.union(
        Found(firmware=(data,)) if name == "firmware" else read_bytes(data)
        for name, data in table.entries
    )


def _json(raw: bytes) -> Found:
    """A bundle, or what Azure's metadata service answers (THIM): certificates as texts in PEM."""
    form = JsonObject.parse(raw, path="endorsements", id=CHECK)
    if "schema" in form:
        return Found.union(read_answer(answer) for answer in read_bundle(form))
    names = [name for name in ("vcekCert", "certificateChain") if name in form]
    if not names:
        raise MalformedEvidence(
            "endorsements: no answer of Azure's metadata service",
            id=CHECK,
            field="endorsements",
            want="vcekCert and certificateChain",
        )
    return Found.union(part for name in names for part in _pem(form.text(name).encode("utf-8")))

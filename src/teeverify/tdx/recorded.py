"""Reading Intel's answers from where people keep them.

Three forms: one JSON object as dcap-qvl writes it, a directory of recorded HTTP exchanges
(``NNNN_*.body`` with ``NNNN_*.http.json``), and a directory of plain files. Nothing is verified.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from teeverify.crypto.crl import Crl, parse_crl
from teeverify.crypto.pem import pem_blocks
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes, json_members, json_value, utf8_text
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.tdx.documents import (
    QE_IDENTITY,
    TCB_INFO,
    parse_qe_identity,
    parse_tcb_info,
)
from teeverify.tdx.pool import Entry, Pool

__all__ = ["read_json", "read_path"]

CHECK = "tdx.endorsements"
ROOT_CRL = "tdx.root-crl"
PCK_CRL = "tdx.pck-crl"
T = TypeVar("T")
_Parse = Callable[[bytes, bytes, "bytes | None"], T]
_MAX_FILE = 4 * 1024 * 1024
_MAX_FILES = 4096
_OK = 200
_DER_SEQUENCE = b"\x30"
_MEMBERS = ("pck_certificate_chain", "pck_crl", "qe_identity", "root_ca_crl", "tcb_info")
_DOCUMENT = re.compile(r"/(sgx|tdx)/certification/v4/(tcb|qe/identity)$")
_PCK_CRL = re.compile(r"/sgx/certification/v[34]/pckcrl$")
_ROOT_CRL = re.compile(r"/sgx/certification/v[34]/rootcacrl$|/IntelSGXRootCA\.der$")
_TCB_CHAINS = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
_QE_CHAINS = ("sgx-enclave-identity-issuer-chain",)


def read_json(text: str | bytes) -> Pool:
    """Read the JSON form that dcap-qvl writes (``QuoteCollateralV3``).

    A member that is missing or ``null`` is an endorsement that is not there.

    Raises:
        MalformedEvidence: Not that form, or a part of it cannot be read.
    """
    form = JsonObject.parse(text, path="endorsements", id=CHECK)
    if not any(name in form for name in _MEMBERS):
        raise MalformedEvidence(
            "endorsements: no quote collateral", id=CHECK, field="endorsements", want=str(_MEMBERS)
        )
    return Pool(
        tcb_infos=_json_document(form, "tcb_info", parse_tcb_info),
        qe_identities=_json_document(form, "qe_identity", parse_qe_identity),
        root_crls=_json_crl(form, "root_ca_crl", ROOT_CRL),
        pck_crls=_json_crl(form, "pck_crl", PCK_CRL),
        pck_chains=_json_chain(form, "pck_certificate_chain"),
    )


def read_path(path: Path) -> Pool:
    """Read a JSON file, a directory of recorded exchanges, or a directory of plain files.

    Raises:
        ConfigurationError: There is nothing at this path, or it cannot be read.
        MalformedEvidence: An answer cannot be read.
    """
    if not path.is_dir():
        return read_json(_read(path))
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(names) > _MAX_FILES:
        raise ConfigurationError(
            "too many files in the directory of endorsements",
            id="usage.endorsements",
            got=str(len(names)),
            want=f"at most {_MAX_FILES}",
        )
    exchanges = [name for name in names if name.endswith(".http.json")]
    plain = [name for name in names if not name.endswith((".http.json", ".body"))]
    pools = [_read_exchange(path, name) for name in exchanges]
    return Pool.union([*pools, _read_plain(path, plain)])


# --- dcap-qvl's JSON -------------------------------------------------------------------------


def _json_document(form: JsonObject, name: str, parse: _Parse[T]) -> tuple[Entry[T], ...]:
    if name not in form:
        return ()
    (chain,) = _json_chain(form, f"{name}_issuer_chain") or (None,)
    signature = form.hex(f"{name}_signature")
    return (Entry(parse(form.text(name).encode("utf-8"), signature, chain)),)


def _json_chain(form: JsonObject, name: str) -> tuple[bytes, ...]:
    return (form.text(name).encode("utf-8"),) if name in form else ()


def _json_crl(form: JsonObject, name: str, id: str) -> tuple[Entry[Crl], ...]:
    return (Entry(parse_crl(form.hex(name), id=id, what=name)),) if name in form else ()


# --- recorded exchanges ----------------------------------------------------------------------


def _read_exchange(folder: Path, name: str) -> Pool:
    """Read one recorded answer; what was not asked of Intel, or not answered, is not there."""
    record = JsonObject.parse(_read(folder / name), path=name, id=CHECK)
    url = record.text("url")
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, max_num_fields=16)
    except ValueError:
        return Pool()
    document = _DOCUMENT.search(parts.path)
    pck_crl, root_crl = _PCK_CRL.search(parts.path), _ROOT_CRL.search(parts.path)
    if not (document or pck_crl or root_crl) or record.integer("status") != _OK:
        return Pool()
    body = _read(folder / f"{name.removesuffix('.http.json')}.body")
    if root_crl:
        return Pool(root_crls=(Entry(_crl(body, ROOT_CRL, url), "root"),))
    if document is None:
        return Pool(pck_crls=(Entry(_crl(body, PCK_CRL, url), query.get("ca", [""])[0]),))
    tee, kind = document.groups()
    headers = record.object("headers")
    if kind == "tcb":
        address = f"{tee.upper()}:{query.get('fmspc', [''])[0].lower()}"
        item = _answer(body, "tcbInfo", parse_tcb_info, TCB_INFO, _header(headers, _TCB_CHAINS))
        return Pool(tcb_infos=(Entry(item, address),))
    chain = _header(headers, _QE_CHAINS)
    identity = _answer(body, "enclaveIdentity", parse_qe_identity, QE_IDENTITY, chain)
    return Pool(qe_identities=(Entry(identity, tee.upper()),))


def _header(headers: JsonObject, wanted: Iterable[str]) -> bytes | None:
    """The issuer chain in a recorded header, percent-decoded; ``None`` where it is absent."""
    for name in headers.names():
        if name.lower() in wanted:
            values = headers.texts(name)
            return _chain("".join(values).encode("utf-8"))
    return None


def _chain(raw: bytes) -> bytes:
    """A PEM chain, which Intel's headers carry percent-encoded."""
    if b"%" not in raw:
        return raw
    text = utf8_text(raw, field="issuer chain", id=CHECK)
    return unquote(text, errors="replace").encode("utf-8")


def _answer(body: bytes, name: str, parse: _Parse[T], id: str, chain: bytes | None) -> T:
    """Read an answer ``{name: {...}, "signature": hex}``; the inner text is cut out as sent."""
    members = json_members(body, field=name, id=id)
    if name not in members or "signature" not in members:
        raise MalformedEvidence(
            f"{name}: not Intel's answer", id=id, field=name, want=f"{name} and signature"
        )
    signature = json_value(members["signature"], field="signature", id=id)
    return parse(members[name], hex_bytes(signature, field="signature", id=id), chain)


def _crl(raw: bytes, id: str, what: str) -> Crl:
    """Read a revocation list in DER, in PEM, or (as a PCCS answers) in hex of DER."""
    if not raw.startswith(_DER_SEQUENCE):
        if raw.lstrip().startswith(b"-----BEGIN"):
            (raw,) = pem_blocks(raw, "X509 CRL", id=id, what=what, max_blocks=1)
        else:
            raw = hex_bytes(utf8_text(raw, field=what, id=id).strip(), field=what, id=id)
    return parse_crl(raw, id=id, what=what)


# --- plain files -----------------------------------------------------------------------------


def _read_plain(folder: Path, names: Iterable[str]) -> Pool:
    """Read plain files by what their names say."""
    kinds: dict[str, list[Path]] = {}
    for name in names:
        kinds.setdefault(_kind(name), []).append(folder / name)
    chains = {
        kind: _chain(_read(kinds[kind][0])) for kind in ("tcb chain", "qe chain") if kind in kinds
    }
    # One certificate signs both documents, so one file often serves for both.
    tcb_chain = chains.get("tcb chain") or chains.get("qe chain")
    qe_chain = chains.get("qe chain") or chains.get("tcb chain")
    return Pool(
        tcb_infos=tuple(
            Entry(_answer(_read(file), "tcbInfo", parse_tcb_info, TCB_INFO, tcb_chain))
            for file in kinds.get("tcb info", ())
        ),
        qe_identities=tuple(
            Entry(_answer(_read(file), "enclaveIdentity", parse_qe_identity, QE_IDENTITY, qe_chain))
            for file in kinds.get("qe identity", ())
        ),
        root_crls=tuple(
            Entry(_crl(_read(file), ROOT_CRL, file.name)) for file in kinds.get("root crl", ())
        ),
        pck_crls=tuple(
            Entry(_crl(_read(file), PCK_CRL, file.name)) for file in kinds.get("pck crl", ())
        ),
        pck_chains=tuple(_chain(_read(file)) for file in kinds.get("pck chain", ())),
    )


def _kind(file_name: str) -> str:
    """What a plain file holds, by its name; empty for what is not ours."""
    name = file_name.lower().replace("-", "_")
    if "chain" in name:
        if "pck" in name:
            # The issuer of a PCK's list is the CA in the PCK's own chain.
            return "" if "crl" in name else "pck chain"
        return "qe chain" if "identity" in name else "tcb chain"
    if "crl" in name:
        return "root crl" if "root" in name else "pck crl"
    if name.endswith(".json"):
        if name.startswith("tcb_info"):
            return "tcb info"
        if "qe_identity" in name:
            return "qe identity"
    return ""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(data) > _MAX_FILE:
        raise MalformedEvidence(
            f"{path.name}: larger than {_MAX_FILE} bytes", id=CHECK, field=path.name
        )
    return data


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    problem = getattr(error, "strerror", None) or "not a usable path"
    return ConfigurationError(
        f"the endorsements cannot be read: {problem}", id="usage.endorsements", got=str(path)
    )

"""Reading Intel's answers from where people keep them.

Three forms: one JSON object as dcap-qvl writes it, a directory of recorded HTTP exchanges
(``NNNN_*.body`` with ``NNNN_*.http.json``), and a directory of plain files. Nothing is verified.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from teeverify.crypto.crl import Crl, parse_crl
from teeverify.crypto.pem import pem_blocks
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes, json_members, json_value, utf8_text
from teeverify.endorsements import (
    Answer,
    Exchange,
    is_directory,
    list_files,
    read_bundle,
    read_exchanges,
    read_file,
)
from teeverify.errors import MalformedEvidence
from teeverify.tdx.documents import EVALUATION_NUMBERS, QE_IDENTITY, TCB_INFO
from teeverify.tdx.documents_form import (
    parse_evaluation_numbers,
    parse_qe_identity,
    parse_tcb_info,
)
from teeverify.tdx.pool import Entry, Pool

__all__ = ["read_answer", "read_json", "read_path"]

CHECK = "tdx.endorsements"
ROOT_CRL = "tdx.root-crl"
PCK_CRL = "tdx.pck-crl"
T = TypeVar("T")
_Parse = Callable[[bytes, bytes, "bytes | None"], T]
_RECORDED = (".http.json", ".body")
_DER_SEQUENCE = b"\x30"
_MEMBERS = ("pck_certificate_chain", "pck_crl", "qe_identity", "root_ca_crl", "tcb_info")
_DOCUMENT = re.compile(r"/(sgx|tdx)/certification/v4/(tcb|qe/identity|tcbevaluationdatanumbers)$")
_AMD = re.compile(r"(?:^|_)(?:vcek|vlek|ask|asvk|ark)(?:_|\.)")
_PCK_CRL = re.compile(r"/sgx/certification/v[34]/pckcrl$")
_ROOT_CRL = re.compile(r"/sgx/certification/v[34]/rootcacrl$|/IntelSGXRootCA\.der$")
_TCB_CHAINS = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
_QE_CHAINS = ("sgx-enclave-identity-issuer-chain",)
_NUMBERS_CHAINS = ("tcb-evaluation-data-numbers-issuer-chain",)


def read_json(text: str | bytes) -> Pool:
    """Read the JSON form that dcap-qvl writes (``QuoteCollateralV3``), or a bundle of answers.

    A member that is missing or ``null`` is an endorsement that is not there.

    Raises:
        MalformedEvidence: Not that form, or a part of it cannot be read.
    """
    form = JsonObject.parse(text, path="endorsements", id=CHECK)
    if "answers" in form:
        return Pool.union(read_answer(answer) for answer in read_bundle(form))
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
    if not is_directory(path):
        return read_json(read_file(path))
    pools = [_read_exchange(exchange) for exchange in read_exchanges(path)]
    plain = [file for file in list_files(path) if not file.name.endswith(_RECORDED)]
    return Pool.union([*pools, _read_plain(plain)])


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


def _read_exchange(exchange: Exchange) -> Pool:
    """Read one recorded answer; what was not asked of Intel, or not answered, is not there."""
    if not _is_intels(exchange.path) or not exchange.ok:
        return Pool()
    return _read_answer(
        exchange.name, (exchange.path, exchange.query), exchange.headers, exchange.body()
    )


def read_answer(answer: Answer) -> Pool:
    """Read one answer of Intel's service, or of a caching service (PCCS).

    Raises:
        MalformedEvidence: It cannot be read.
    """
    if not _is_intels(answer.path):
        return Pool()
    return _read_answer("answer", (answer.path, answer.query), answer.headers, answer.body)


def _is_intels(path: str) -> bool:
    return any(pattern.search(path) for pattern in (_DOCUMENT, _PCK_CRL, _ROOT_CRL))


def _read_answer(
    name: str, asked: tuple[str, Mapping[str, str]], headers: Mapping[str, str], body: bytes
) -> Pool:
    path, query = asked
    document = _DOCUMENT.search(path)
    if _ROOT_CRL.search(path):
        return Pool(root_crls=(Entry(_crl(body, ROOT_CRL, name), "root"),))
    if document is None:
        return Pool(pck_crls=(Entry(_crl(body, PCK_CRL, name), query.get("ca", "")),))
    tee, kind = document.groups()
    if kind == "tcb":
        address = f"{tee.upper()}:{query.get('fmspc', '').lower()}"
        chain = _header(headers, _TCB_CHAINS)
        item = _answer(body, "tcbInfo", parse_tcb_info, TCB_INFO, chain)
        return Pool(tcb_infos=(Entry(item, address),))
    if kind == "tcbevaluationdatanumbers":
        chain = _header(headers, _NUMBERS_CHAINS)
        numbers = _answer(
            body, "tcbEvaluationDataNumbers", parse_evaluation_numbers, EVALUATION_NUMBERS, chain
        )
        return Pool(evaluation_numbers=(Entry(numbers, tee.upper()),))
    chain = _header(headers, _QE_CHAINS)
    identity = _answer(body, "enclaveIdentity", parse_qe_identity, QE_IDENTITY, chain)
    return Pool(qe_identities=(Entry(identity, tee.upper()),))


def _header(headers: Mapping[str, str], wanted: Iterable[str]) -> bytes | None:
    """The issuer chain in a recorded header, percent-decoded; ``None`` where it is absent."""
    for name in wanted:
        if name in headers:
            return _chain(headers[name].encode("utf-8"))
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


def _read_plain(files: Iterable[Path]) -> Pool:
    """Read plain files by what their names say."""
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(_kind(file.name), []).append(file)
    chains = {
        kind: _chain(read_file(kinds[kind][0]))
        for kind in ("tcb chain", "qe chain")
        if kind in kinds
    }
    # One certificate signs both documents, so one file often serves for both.
    tcb_chain = chains.get("tcb chain") or chains.get("qe chain")
    qe_chain = chains.get("qe chain") or chains.get("tcb chain")
    return Pool(
        tcb_infos=tuple(
            Entry(_answer(read_file(file), "tcbInfo", parse_tcb_info, TCB_INFO, tcb_chain))
            for file in kinds.get("tcb info", ())
        ),
        qe_identities=tuple(
            Entry(
                _answer(
                    read_file(file), "enclaveIdentity", parse_qe_identity, QE_IDENTITY, qe_chain
                )
            )
            for file in kinds.get("qe identity", ())
        ),
        root_crls=tuple(
            Entry(_crl(read_file(file), ROOT_CRL, file.name)) for file in kinds.get("root crl", ())
        ),
        pck_crls=tuple(
            Entry(_crl(read_file(file), PCK_CRL, file.name)) for file in kinds.get("pck crl", ())
        ),
        pck_chains=tuple(_chain(read_file(file)) for file in kinds.get("pck chain", ())),
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
    if name.endswith(".json") and name.startswith("tcb_info"):
        return "tcb info"
    return "qe identity" if name.endswith(".json") and "qe_identity" in name else ""

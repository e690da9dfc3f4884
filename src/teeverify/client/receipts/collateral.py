"""The endorsements that a receipt keeps beside the report: the signed documents as they came."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from teeverify import tdx
from teeverify.appraisal.evidence import Evidence
from teeverify.errors import TeeVerifyError
from teeverify.providers.dialect import Dialect
from teeverify.tdx.pcs import platform_of

__all__ = ["endorsements_beside"]


def endorsements_beside(evidence: Evidence, report: bytes, dialect: Dialect) -> dict[str, Any]:
    """What a receipt must hold beside the report, as arguments of :class:`ReceiptFile`.

    Args:
        evidence: The evidence, with all endorsements that it was examined with.
        report: The report's exact bytes; endorsements inside it are not kept twice.
        dialect: The report's dialect.
    """
    enclosed = dialect.enclosed(report)
    found: dict[str, Any] = {}
    intel = evidence.tdx_endorsements if any(m.quote for m in evidence.machines) else None
    if intel is not None and (enclosed.tdx is None or intel.pool != enclosed.tdx.pool):
        found["tdx"] = _texts(intel, _platforms(evidence, intel))
    amd = evidence.snp_endorsements if any(m.snp_report for m in evidence.machines) else None
    if amd is not None:
        pieces = [leaf.der for leaf in amd.found.leaves]
        pieces += [one.der for one in amd.found.authorities]
        pieces += [crl.der for crl in amd.found.crls]
        found["snp"] = tuple(dict.fromkeys(pieces))
    gpus = evidence.nvidia_endorsements if any(m.gpus for m in evidence.machines) else None
    if gpus is not None and gpus != enclosed.nvidia:
        found.update(
            nras=gpus.nras_answers,
            jwks=gpus.jwks,
            rims=tuple((rim.id, rim.xml) for rim in gpus.rims),
            ocsp=gpus.ocsp,
            crls=gpus.crls,
        )
    return found


def _platforms(evidence: Evidence, known: tdx.Endorsements) -> set[bytes]:
    """The models of CPU (FMSPC) that its quotes name; all, where one does not name any."""
    quotes = [m.quote for m in evidence.machines if m.quote is not None]
    try:
        return {platform_of(tdx.parse_quote(quote)).fmspc for quote in quotes}
    except TeeVerifyError:
        return {entry.item.fmspc for entry in known.pool.tcb_infos}


def _texts(endorsements: tdx.Endorsements, fmspcs: Collection[bytes]) -> tuple[bytes, ...]:
    """Write what may be needed for these platforms, each piece in dcap-qvl's JSON form.

    Args:
        endorsements: What a caller gave.
        fmspcs: The platforms; TCB info of others is left out.
    """
    pieces = _pieces(endorsements, fmspcs)
    return tuple(
        json.dumps({name: text for name, text in piece.items() if text is not None}).encode("ascii")
        for piece in pieces
    )


def _pieces(
    endorsements: tdx.Endorsements, fmspcs: Collection[bytes]
) -> Iterator[dict[str, str | None]]:
    pool = endorsements.pool
    for info in (entry.item for entry in pool.tcb_infos):
        if info.tee == "TDX" and info.fmspc in fmspcs:
            yield _document("tcb_info", info.signed, info.signature, info.issuer_chain)
    for identity in (entry.item for entry in pool.qe_identities):
        if identity.tee == "TDX":
            chain = identity.issuer_chain
            yield _document("qe_identity", identity.signed, identity.signature, chain)
    for entry in pool.root_crls:
        yield {"root_ca_crl": entry.item.der.hex()}
    for entry in pool.pck_crls:
        yield {"pck_crl": entry.item.der.hex()}
    for pck_chain in pool.pck_chains:
        yield {"pck_certificate_chain": pck_chain.decode("utf-8")}


def _document(
    name: str, signed: bytes, signature: bytes, chain: bytes | None
) -> dict[str, str | None]:
    return {
        name: signed.decode("utf-8"),
        f"{name}_signature": signature.hex(),
        f"{name}_issuer_chain": None if chain is None else chain.decode("utf-8"),
    }

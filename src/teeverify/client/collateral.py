"""Intel's collateral as text again: the signed documents as they came, for receipts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from teeverify.tdx import Endorsements

__all__ = ["collateral_texts"]


def collateral_texts(endorsements: Endorsements, fmspcs: Collection[bytes]) -> tuple[bytes, ...]:
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
    endorsements: Endorsements, fmspcs: Collection[bytes]
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

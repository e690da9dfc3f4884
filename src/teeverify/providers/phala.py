"""Phala Cloud and RedPill: the dstack vLLM proxy, directly or behind RedPill's gateway.

Of plain answers the proxy signs Python's ``json.dumps`` of what it sends as compact JSON, so the
received bytes never have the signed hash; of streams it signs the very bytes.
"""

from __future__ import annotations

from teeverify.providers.dialect import Dialect
from teeverify.providers.dstack import PROXY_CANNOT, PROXY_PROVES, read_enclosed
from teeverify.providers.wrapped import read_resold
from teeverify.responses import PHALA_TEXT

__all__ = ["PHALA"]

PHALA = Dialect(
    id="phala",
    hosts=("api.redpill.ai", "inference-api.phala.network"),
    report_path="/v1/attestation/report",
    read=read_resold,
    text="Phala's proxies and RedPill's gateway; binds key and nonce; GPUs by equal nonce",
    signature_path="/signature/{id}",
    signed_routes=("/chat/completions", "/completions"),
    enclosed=read_enclosed,
    asks={"signing_algo": "ecdsa"},
    asks_signature={"signing_algo": "ecdsa"},
    form=PHALA_TEXT,
    encryption="phala-v2",
    proves=PROXY_PROVES,
    cannot=(
        "that you are connected to that machine, or that the gateway does not read along",
        "the received bytes of a plain answer: Phala signs its own serialisation of it",
        "anything of models resold from Chutes, whose certificates the gateway leaves out",
        *PROXY_CANNOT,
    ),
)

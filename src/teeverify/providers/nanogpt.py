"""NanoGPT: an aggregator that passes on what its providers' nodes show.

The ``nonce`` at the top of an answer is NanoGPT's echo of the question: never read. What counts is
the nonce inside each quote, and in many recorded answers that is another one.
"""

from __future__ import annotations

from teeverify.providers.dialect import Dialect
from teeverify.providers.dstack import PROXY_CANNOT, PROXY_PROVES
from teeverify.providers.wrapped import read_resold
from teeverify.responses import PHALA_TEXT

__all__ = ["NANOGPT"]

NANOGPT = Dialect(
    id="nanogpt",
    hosts=("nano-gpt.com",),
    report_path="/api/v1/tee/attestation",
    read=read_resold,
    text="resells dstack nodes (TEE/ models); binds key and nonce; GPUs by equal nonce",
    root="/api/v1",
    signature_path="/tee/signature/{id}",
    signed_routes=("/chat/completions",),
    form=PHALA_TEXT,
    proves=PROXY_PROVES,
    cannot=(
        "that NanoGPT does not read along: your TLS connection ends at its own front",
        "which model answers: the nodes of several of its models have named another one",
        *PROXY_CANNOT,
    ),
)

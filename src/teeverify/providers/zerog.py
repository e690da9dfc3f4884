"""0G compute: an LLM node (a dstack proxy), and the broker before it (a dstack guest of its own).

The address that must sign stands in 0G's contract on its chain, which is not read here: compare it
with the result's signer. The broker signs for itself; it has no GPU, and where it passes answers on
from providers outside any enclave its proof of routing is no signed answer.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.binding import SigningKey
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID, PROXY_CANNOT, PROXY_PROVES, read_report
from teeverify.responses import ZEROG_TEXT

__all__ = ["ZEROG", "ZEROG_BROKER", "read_broker"]

_ADDRESS_CHARACTERS = 42


def read_broker(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the broker's quote: the key that it claims is the text in its ``report_data``.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    tcb_info = report.object_or_text("tcb_info") if "tcb_info" in report else None
    given = tcb_info is not None and "app_compose" in tcb_info
    return (
        Machine(
            role="gateway",
            label="broker",
            quote=report.hex("quote", prefix=True),
            layout="ascii-address",
            key=_claimed(report),
            event_log=report.raw("event_log"),
            app_compose=tcb_info.text("app_compose") if tcb_info is not None and given else None,
        ),
    )


def _claimed(report: JsonObject) -> SigningKey:
    """The address in the copy of ``report_data`` beside the quote, which must then equal it."""
    text = report.base64("report_data")[:_ADDRESS_CHARACTERS]
    if not text.isascii():
        raise MalformedEvidence(
            f"{report.path}.report_data: no address", id=ID, field=f"{report.path}.report_data"
        )
    address = text.decode("ascii")
    return SigningKey.parse("ecdsa", address, id=ID, field=f"{report.path}.report_data")


ZEROG = Dialect(
    id="0g",
    hosts=(),
    report_path="/v1/proxy/attestation/report",
    read=read_report,
    text="0G's LLM node; binds key and nonce; GPUs by equal nonce",
    root="/v1/proxy",
    signature_path="/signature/{id}",
    signed_routes=("/chat/completions",),
    form=ZEROG_TEXT,
    proves=PROXY_PROVES,
    cannot=(
        "that the signer is the one in 0G's contract: compare it with the address there",
        "that you are connected to that machine, or that the broker does not read along",
        *PROXY_CANNOT,
    ),
)
ZEROG_BROKER = Dialect(
    id="0g-broker",
    hosts=(),
    report_path="/v1/quote",
    read=read_broker,
    text="0G's broker; binds its key, no nonce; it has no GPU",
    form=ZEROG_TEXT,
    proves=("that a genuine TDX machine holds the broker's signing key",),
    cannot=(
        "when the quote was made: it holds no nonce",
        "that any GPU answered: the broker passes requests on",
        "that the signer is the one in 0G's contract: compare it with the address there",
    ),
)

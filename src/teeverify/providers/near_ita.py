"""What NEAR's gateway sends to Intel Trust Authority, verified here instead of there.

The gateway's route ``/v1/attestation/ita-token`` returns Intel's token about this evidence; the
evidence itself is the request to ``/appraisal/v2/attest``: ``tdx {quote, runtime_data, event_log,
verifier_nonce}`` and ``nvgpu {evidence_list...}``, bytes in base64. Whoever has it need not believe
the token.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound, SigningKey
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import utf8_text
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID

__all__ = ["NEAR_ITA", "read_request"]

_FINGERPRINT = "tls_cert_fingerprint"


def read_request(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a request to Intel Trust Authority.

    The runtime data is read for the values in it only: the layout writes it anew from these, and
    must then meet the quote, so that no second spelling of it passes.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    tdx = report.object("tdx")
    runtime = JsonObject.parse(tdx.base64("runtime_data"), path="report.tdx.runtime_data", id=ID)
    material = tdx.object("verifier_nonce")
    machine = Machine(
        role="gateway",
        label="gateway",
        quote=tdx.base64("quote"),
        layout="near-ita",
        key=SigningKey.parse(
            runtime.text("signing_algo"),
            runtime.text("signing_address"),
            id=ID,
            field=f"{runtime.path}.signing_address",
        ),
        tls_spki_sha256=runtime.hex(_FINGERPRINT, 32) if _FINGERPRINT in runtime else None,
        peer_spki_sha256=exchange.peer_spki_sha256,
        commits=Bound(verifier_nonce=material.base64("val") + material.base64("iat")),
        event_log=utf8_text(tdx.base64("event_log"), field="report.tdx.event_log", id=ID)
        if "event_log" in tdx
        else None,
        gpus=report.raw("nvgpu"),
        nonce=runtime.hex("caller_nonce", 32),
    )
    return (machine,)


NEAR_ITA = Dialect(
    id="near-ita",
    hosts=(),
    report_path="/appraisal/v2/attest",
    read=read_request,
    text="what NEAR's gateway sends to Intel Trust Authority; binds key, nonce, Intel's nonce and "
    "TLS key",
    form=None,
    proves=(
        "that the gateway's key is held by a genuine TDX machine, which answered your nonce",
        "that the GPUs answered a nonce of the same question",
    ),
    cannot=(
        "that the GPUs are the gateway's: they are a model node's, whose own quote is not here",
        "what was configured: the gateway's app_compose is not here",
    ),
)

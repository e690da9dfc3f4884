"""Venice: a NEAR model node's report, or a Phala gateway's, with Venice's own words around it.

``verified`` and ``server_verification`` are Venice's opinion of the report: never read.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.encoding.fields import JsonObject
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID, PROXY_CANNOT, PROXY_PROVES, read_nodes
from teeverify.providers.near import read_node

__all__ = ["VENICE", "read_report"]


def read_report(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the report; the alias ``model`` counts only beside a matching ``upstream_model``.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    alias: tuple[str, ...] = ()
    if "model" in report and "upstream_model" in report and "model_name" in report:
        same = report.text("upstream_model") == report.text("model_name")
        alias = (report.text("model"),) if same else ()
    # The TLS connection ends at Venice's own front, which is no attested machine.
    return tuple(
        read_nodes(
            report,
            lambda entry, label: read_node(entry, label=label, tls=False, extra_names=alias),
        )
    )


VENICE = Dialect(
    id="venice",
    hosts=("api.venice.ai",),
    report_path="/api/v1/tee/attestation",
    read=read_report,
    text="resells NEAR nodes; binds key and nonce; GPUs by equal nonce",
    root="/api/v1",
    signature_path="/tee/signature",
    signed_routes=("/chat/completions",),
    asks_signature={"request_id": "{id}"},
    encryption="venice",
    proves=PROXY_PROVES,
    cannot=(
        "that Venice does not read along: your TLS connection ends at its own front",
        "that the alias you asked for is the model: that is Venice's word beside the node's",
        *PROXY_CANNOT,
    ),
)

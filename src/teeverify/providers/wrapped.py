"""What resellers of dstack nodes answer: a node's report, or a gateway's with nodes behind it.

Both hold the same flat reports, so both have one layout, which follows from what was requested.
Models that are resold from others come in those others' forms; these are dialects of their own.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence, StaleEvidence
from teeverify.providers.dialect import Recorded
from teeverify.providers.dstack import ID, read_flat_report, read_list, read_nodes

__all__ = ["read_resold"]


def read_resold(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a reseller's answer; the connection ends at its own front, which nothing attests.

    Raises:
        MalformedEvidence: A field is missing or has another form, or it is another's form.
        StaleEvidence: It is, and names another nonce than the one that was asked for.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    _refuse_foreign(report, exchange)
    if "gateway_attestation" not in report:
        return tuple(read_nodes(report, _node))
    gateway = read_flat_report(
        report.object("gateway_attestation"), role="gateway", label="gateway", tls=False
    )
    nodes = read_list(report.array("model_attestations"), _node, path="report.model_attestations")
    return (gateway, *nodes)


def _node(entry: JsonObject, label: str) -> tuple[Machine, ...]:
    return (read_flat_report(entry, role="model", label=label, tls=False),)


def _refuse_foreign(report: JsonObject, exchange: Recorded) -> None:
    """Refuse what another provider's enclaves show, and first of all where it is stale."""
    chutes = "attestation_type" in report
    if not chutes and not {"format", "body"} <= report.names():
        return
    asked = exchange.query.get("nonce")
    if asked is not None and "nonce" in report:
        want = hex_bytes(asked, field="query.nonce", id=ID, length=32)
        got = report.hex("nonce", 32)
        if got != want:
            raise StaleEvidence(
                "the evidence does not answer your question: it names another nonce",
                id="freshness.nonce",
                got=got.hex(),
                want=want.hex(),
                hint="It is cached, or the provider chose the nonce itself; it does not show which "
                "machine answers you now.",
            )
    raise MalformedEvidence(
        "unsupported evidence format: this model is resold from another provider",
        id=ID,
        field="report.attestation_type" if chutes else "report.format",
        got=repr(report.raw("attestation_type" if chutes else "format"))[:80],
        want="the report of a dstack node",
        hint="Name the dialect of that provider with --dialect; 'teeverify providers' lists them.",
    )

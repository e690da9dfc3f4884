"""Panda (testinprod): attestations that are published in a repository, one a deployment.

Beside the quote stand its event log, the public key, and a token in which Intel's service (Trust
Authority) repeats what the quote says: a second opinion, which counts for nothing here. The
configuration is published beside the attestation.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import utf8_text
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID

__all__ = ["PANDA", "read_attestation"]

_DEPLOYMENTS = "/testinprod-io/panda-vllm-proxy/{ref}/deployments/{name}"
_POINT_BYTES = 65


def read_attestation(exchange: Recorded) -> tuple[Machine, ...]:
    """Read one deployment's attestation.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    compose = exchange.beside.get("compose")
    machine = Machine(
        role="model",
        label="machine",
        quote=report.hex("quote", prefix=True),
        layout="sha256-pubkey",
        commits=Bound(public_key=report.hex("public_key", _POINT_BYTES)),
        event_log=report.raw("event_log"),
        app_compose=None if compose is None else utf8_text(compose, field="compose", id=ID),
    )
    return (machine,)


PANDA = Dialect(
    id="panda",
    hosts=(),
    report_path=f"{_DEPLOYMENTS}_attestation.json",
    read=read_attestation,
    text="published attestations; binds the public key of a deployment; no nonce, no GPUs",
    beside={"compose": f"{_DEPLOYMENTS}_compose.json"},
    fresh=False,
    form=None,
    proves=(
        "that a public key was held by a genuine TDX machine with the published configuration",
    ),
    cannot=(
        "when: the quote carries no nonce, and the machine may be gone",
        "that there is any GPU: none is attested",
        "who made an answer: its signature is not read here",
    ),
)

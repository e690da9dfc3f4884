"""Nillion: nilCC's VMs (AMD SEV-SNP), in which nilAI runs.

``GET /nilcc/api/v2/report`` shows the report's exact bytes beside its fields; only the bytes are
read. ``gpu_token`` is what NVIDIA's service told the machine about its GPUs: without the evidence
there is nothing to verify, so it counts for nothing here. nilAI's own report names a key that
nothing binds, and shows no evidence in a form that could be verified.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NoReturn

from teeverify.appraisal.evidence import Machine
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID
from teeverify.providers.routes import Ask, Asking, Told
from teeverify.responses import NILAI as NILAI_FORM

__all__ = ["NILAI", "NILCC", "read_report"]

_REPORT = "/nilcc/api/v2/report"


def read_report(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the report of a nilCC VM.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    machine = Machine(
        role="model",
        label="machine",
        snp_report=report.hex("raw_report"),
        layout="nilcc",
        # The machine names no TLS key: what must be in its report is the key of the connection.
        tls_spki_sha256=exchange.peer_spki_sha256,
        peer_spki_sha256=exchange.peer_spki_sha256,
    )
    return (machine,)


def _ask(asking: Asking) -> Generator[Ask, Told, Recorded]:
    told = yield Ask(what="report", path=_REPORT)
    return Recorded(
        path=_REPORT,
        query={},
        body=told.body,
        peer_spki_sha256=told.peer_spki_sha256,
        host=asking.host,
    )


def _refuse(exchange: Recorded) -> NoReturn:
    """Refuse: nilAI only echoes the nonce, has swapped the fields, and binds its key to nothing."""
    JsonObject.parse(exchange.body, path="report", id=ID)
    raise MalformedEvidence(
        "unsupported evidence format: nothing in nilAI's own report is bound to its key",
        id=ID,
        field="report",
        want="the report of the nilCC machine in which it runs",
        hint=f"Attest that machine: {_REPORT} with --dialect nilcc.",
    )


NILCC = Dialect(
    id="nilcc",
    hosts=(),
    report_path=_REPORT,
    read=read_report,
    text="nilCC's VMs, in which nilAI runs; binds the TLS key; no nonce, no GPU evidence",
    questions=_ask,
    fresh=False,
    form=None,
    proves=("that the TLS key of your connection is held by a genuine AMD SEV-SNP VM",),
    cannot=(
        "when the evidence was made: it carries no nonce",
        "that there is any GPU: the machine shows NVIDIA's word (gpu_token), not the evidence",
        "which workload runs, but by a launch measurement that you pin",
        "who signed an answer of nilAI: its key is bound to nothing",
    ),
)
NILAI = Dialect(
    id="nilai",
    hosts=(),
    report_path="/v1/attestation/report",
    read=_refuse,
    text="nilAI's own report: nothing in it is bound to anything; see nilcc",
    form=NILAI_FORM,
    proves=(),
    cannot=(
        "anything: nonce and key stand beside the evidence, and nothing ties them to it",
        "that an answer came from an enclave: no quote binds the key that signs",
    ),
)

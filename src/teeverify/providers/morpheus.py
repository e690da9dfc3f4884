"""Morpheus: a provider node is a SecretVM that passes prompts on to a model's backend.

What the node's own evidence proves, ``secretvm`` proves. What stands behind it, the node says at
``/v1/models/attestation``: a claim of its code, told as such and never as proof.
"""

from __future__ import annotations

from dataclasses import replace

from teeverify.appraisal.evidence import Machine
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.secretvm import SECRETVM, read_cpu

__all__ = ["MORPHEUS", "read_node"]


def read_node(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a provider node's evidence: it is a gateway, whatever its machine can do besides.

    Raises:
        MalformedEvidence: Another form.
    """
    return tuple(
        replace(machine, role="gateway", label="provider node", gpus=None)
        for machine in read_cpu(exchange)
    )


MORPHEUS = Dialect(
    id="morpheus",
    hosts=(),
    report_path=SECRETVM.report_path,
    read=read_node,
    text="a Morpheus provider node (SecretVM); binds its TLS key; the model runs elsewhere",
    root=SECRETVM.root,
    beside=SECRETVM.beside,
    questions=SECRETVM.questions,
    fresh=False,
    form=None,
    proves=("that the TLS key of your connection is held by a genuine VM",),
    cannot=(
        "which machine, and whether any GPU, answered: the node passes prompts on",
        "what the node says of its backend (/v1/models/attestation): its code's word",
        "when the evidence was made: at the machine's start, without a nonce of yours",
        "what an answer was, to anybody else: answers carry no signature",
    ),
)

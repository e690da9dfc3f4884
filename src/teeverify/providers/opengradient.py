"""OpenGradient: signed answers of a gateway in an AWS Nitro enclave, whose evidence is not read.

Which key an enclave holds stands in a registry on OpenGradient's chain; pass it as the signature's
key. The registry is somebody's word here: nothing ties the key to a machine.
"""

from __future__ import annotations

from teeverify.appraisal.evidence import Machine
from teeverify.errors import MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.responses import OPENGRADIENT as SIGNED

__all__ = ["OPENGRADIENT"]


def _refuse(exchange: Recorded) -> tuple[Machine, ...]:
    """Refuse evidence of a kind of enclave that has no verifier here.

    Raises:
        MalformedEvidence: Always.
    """
    raise MalformedEvidence(
        "unsupported evidence format: AWS Nitro enclaves are not verified here",
        id="report",
        field="report",
        have=len(exchange.body),
        want="an answer of OpenGradient with the key from its registry (--answer, --signature)",
    )


OPENGRADIENT = Dialect(
    id="opengradient",
    hosts=(),
    report_path="",
    read=_refuse,
    text="signed answers only (RSA-PSS); the evidence of its Nitro enclaves is not read",
    form=SIGNED,
    proves=(
        "that the key you got from the registry signed the answer's text, a time and the request",
    ),
    cannot=(
        "that the key is in any enclave",
        "which model answered: the gateway asks others, and the name is not signed",
        "attachments of a request, and all of an answer but the text of its first choice",
    ),
)

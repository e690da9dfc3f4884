"""Testing against a simulated enclave server: the pytest plugin, and what can be wrong with one.

The plugin gives the fixture ``teeverify_server``; :func:`start` gives more servers, also faulty
ones. Importing this imports nothing else; what runs is imported on use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from teeverify.testing.server import RunningServer

__all__ = ["FAULTS", "Fault", "start"]


class Fault(NamedTuple):
    """How a client must refuse a faulty server.

    Attributes:
        finding: Id of the finding that refuses, and of the exception.
        exception: Name of the exception's class, in :mod:`teeverify.errors`.
    """

    finding: str
    exception: str


FAULTS: Mapping[str, Fault] = {
    "stale-gpu-nonce": Fault("gpu.nonce", "StaleEvidence"),
    "stale-quote": Fault("binding.report-data", "BindingMismatch"),
    "wrong-nonce": Fault("freshness.nonce", "StaleEvidence"),
    "debug-td": Fault("tdx.debug-disabled", "DebugEnabled"),
    "other-key": Fault("answer.signature", "SignatureInvalid"),
    "tampered-answer": Fault("response.hash-equal", "ResponseNotVerified"),
    "other-answer": Fault("response.hash-equal", "ResponseNotVerified"),
    "broken-gpu": Fault("gpu.report-signature", "SignatureInvalid"),
    "same-gpu-twice": Fault("gpu.distinct", "BindingMismatch"),
    "truncated-stream": Fault("answer.complete", "ResponseNotVerified"),
    "no-signature": Fault("answer.signature", "SignatureUnavailable"),
    "wrong-mr-config": Fault("code.compose", "BindingMismatch"),
    "edited-event-log": Fault("code.event-log", "BindingMismatch"),
    "revoked-pck": Fault("tdx.pck-crl", "EndorsementInvalid"),
    "expired-collateral": Fault("tdx.tcb-info", "EndorsementUnavailable"),
    "reserialised-json": Fault("response.hash-equal", "ResponseNotVerified"),
    "out-of-date-tcb": Fault("tdx.tcb-status", "AppraisalFailed"),
    "revoked-tcb": Fault("tdx.tcb", "TcbRejected"),
    "relayed-gpu": Fault("gpu.nonce", "StaleEvidence"),
    "other-code-after-restart": Fault("code.changed", "AppraisalFailed"),
    "swapped-gpu": Fault("gpu.report-signature", "SignatureInvalid"),
    "foreign-signature": Fault("answer.signature", "SignatureInvalid"),
    "missing-chunk": Fault("response.hash-equal", "ResponseNotVerified"),
}
"""What a server can do wrong (``teeverify serve --simulated --fault NAME``), one thing each.

Each holds for plain answers and for streams; ``truncated-stream`` and ``missing-chunk`` show only
in streams, and ``other-code-after-restart`` in the second attestation. In the dialects of the field
``stale-quote`` is refused like ``wrong-nonce``, and ``other-key`` as a key of no evidence
(``key.attested``).
"""


def start(
    *,
    fault: str | None = None,
    model: str = "default",
    gpus: int = 8,
    arguments: tuple[str, ...] = (),
) -> AbstractContextManager[RunningServer]:
    """Start a simulated enclave server in a process of its own.

    Args:
        fault: A key of :data:`FAULTS`, or nothing wrong.
        model: The name of its model.
        gpus: How many GPUs it simulates.
        arguments: Further arguments of ``teeverify serve``, such as ``("--dialect", "near")``. A
            server that speaks ``dstack``, ``phala`` or ``near`` is read by clients of ours with
            ``dialect="dstack"`` or ``"phala"``, and with ``--tls`` by ``"near-direct"``; ``"near"``
            is NEAR's gateway, and reads none of them.

    Returns:
        A context manager that gives the :class:`~teeverify.testing.server.RunningServer` once it
        answers, and stops it at the end.

    Raises:
        ConfigurationError: It did not start; the message says why.
    """
    from teeverify.testing.server import running  # noqa: PLC0415 -- imports nothing until used

    return running(fault=fault, model=model, gpus=gpus, arguments=arguments)

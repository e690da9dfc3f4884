"""SecretVM (SCRT), on which Secret AI and Morpheus' provider nodes run.

``https://VM:29343``: ``/cpu`` is a TDX quote in hex or an AMD report in base64, ``/gpu`` the GPUs'
evidence. Both are made at boot, for a nonce of the machine's own. The TLS key that is bound is that
of this port; another port of the same machine is bound only if it shows the same key.
"""

from __future__ import annotations

from collections.abc import Generator

from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, hex_bytes, utf8_text
from teeverify.errors import MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID
from teeverify.providers.routes import Ask, Asking, Told

__all__ = ["SECRETVM", "read_cpu"]

_CPU, _GPU = "/cpu", "/gpu"
_HEX = frozenset("0123456789abcdefABCDEF")
_NO_GPU_NONCE = bytes(32)


def read_cpu(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the CPU's evidence, and the GPUs' beside it.

    Raises:
        MalformedEvidence: Another form.
    """
    text = utf8_text(exchange.body, field="report", id=ID).strip()
    if not text or text.startswith("<"):
        raise MalformedEvidence(
            "unsupported evidence format: not the plain text of a quote or report",
            id=ID,
            field="report",
            got=text[:20] or "nothing",
            want="hex of a TDX quote, or base64 of an AMD report",
            hint="Ask for /cpu, not for a page that shows it.",
        )
    of_intel = set(text) <= _HEX
    nonce, gpus = _gpus(exchange.beside.get("gpu"))
    machine = Machine(
        role="model",
        label="machine",
        quote=hex_bytes(text, field="report", id=ID) if of_intel else None,
        snp_report=None if of_intel else base64_bytes(text, field="report", id=ID),
        layout="secretvm",
        # The machine names no TLS key: what must be in its quote is the key of the connection.
        tls_spki_sha256=exchange.peer_spki_sha256,
        peer_spki_sha256=exchange.peer_spki_sha256,
        commits=Bound(gpu_nonce=nonce),
        gpus=gpus,
    )
    return (machine,)


def _gpus(body: bytes | None) -> tuple[bytes | None, object]:
    """The GPUs' nonce and evidence; of a machine that says that it has none, the zeros it binds."""
    if body is None:
        return None, None
    report = JsonObject.parse(body, path="gpu", id=ID)
    if "error" in report:
        return _NO_GPU_NONCE, None
    return report.hex("nonce", 32), {name: report.raw(name) for name in report.names()}


def _ask(asking: Asking) -> Generator[Ask, Told, Recorded]:
    told = yield Ask(what="report", path=_CPU, json=False)
    gpu = yield Ask(what="GPU evidence", path=_GPU, json=False)
    return Recorded(
        path=_CPU,
        query={},
        body=told.body,
        peer_spki_sha256=told.peer_spki_sha256,
        host=asking.host,
        beside={"gpu": gpu.body},
    )


SECRETVM = Dialect(
    id="secretvm",
    hosts=(),
    report_path=_CPU,
    read=read_cpu,
    text="SecretVM, Secret AI, Morpheus' provider nodes; binds TLS key and the GPUs' nonce",
    root="",
    beside={"gpu": _GPU},
    questions=_ask,
    fresh=False,
    form=None,
    proves=(
        "that the TLS key of your connection is held by a genuine VM",
        "that genuine GPUs answered the nonce that this VM chose",
    ),
    cannot=(
        "when the evidence was made: at the machine's start, without a nonce of yours",
        "anything about another port of the machine, unless it shows the same TLS key",
        "which workload runs, but by registers that you pin",
        "of a Morpheus provider, what the backend behind it is: that is its code's word",
        "what an answer was, to anybody else: answers carry no signature",
    ),
)

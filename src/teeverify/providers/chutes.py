"""Chutes: instances of a model, each with its own VM, encryption key and TLS key.

Requests are encrypted to one instance's key; answers carry no signature. An instance is bound by
the list of keys (``/e2e/instances/{id}``) together with the evidence (``/chutes/{id}/evidence``).
Resellers show the same evidence without certificates, so that half of what the quote binds cannot
be compared: such instances are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence

from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, hex_bytes
from teeverify.errors import EndpointUnavailable, MalformedEvidence
from teeverify.providers.certificate import spki_sha256_of_der
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID, read_list
from teeverify.providers.routes import Ask, Asking, Told, fill

__all__ = ["CHUTES", "CHUTES_RESOLD", "read_instances", "read_resold"]

_API = "api.chutes.ai"
_KEY_BYTES = 1184  # ML-KEM-768, FIPS 203 table 3
_NONCE_BYTES = 32
_CHUTE = re.compile(r"[0-9A-Za-z-]{1,64}")
_EVIDENCE = "/chutes/{id}/evidence"
_INSTANCES = "/e2e/instances/{id}"


def read_instances(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the evidence of all instances; a bad one leaves the others as they are.

    Raises:
        MalformedEvidence: There is no list, or no list of encryption keys beside it; or no entry
            can be read.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    nonce = hex_bytes(
        exchange.query.get("nonce", ""), field="the nonce of its URL", id=ID, length=_NONCE_BYTES
    )
    keys = _keys(exchange)

    def read(entry: JsonObject, label: str) -> tuple[Machine, ...]:
        name = entry.text("instance_id")
        if name not in keys:
            raise MalformedEvidence(
                "the list of encryption keys does not name this instance, so nothing binds it",
                id=ID,
                field=f"{entry.path}.instance_id",
                got=name[:40],
            )
        machine = Machine(
            role="model",
            label=f"{label} {name[:8]}",
            quote=entry.base64("quote"),
            layout="chutes",
            commits=Bound(e2e_public_key=_checked_key(keys[name])),
            tls_spki_sha256=spki_sha256_of_der(entry.base64("certificate")),
            gpus=entry.raw("gpu_evidence"),
            nonce=nonce,
        )
        return (machine,)

    return _entries(report, "evidence", read)


def read_resold(exchange: Recorded) -> tuple[Machine, ...]:
    """Read instances as resellers show them: with their keys, and without certificates.

    Raises:
        MalformedEvidence: There is no list, or no entry can be read.
    """

    def read(entry: JsonObject, label: str) -> tuple[Machine, ...]:
        machine = Machine(
            role="model",
            label=f"{label} {entry.text('instance_id')[:8]}",
            quote=entry.base64("intel_quote"),
            layout="chutes",
            commits=Bound(e2e_public_key=_checked_key(entry.text("e2e_pubkey"))),
            gpus=entry.raw("gpu_evidence"),
            nonce=entry.hex("nonce", _NONCE_BYTES),
        )
        return (machine,)

    report = JsonObject.parse(exchange.body, path="report", id=ID)
    return _entries(report, "all_attestations", read)


def _entries(
    report: JsonObject, name: str, read: Callable[[JsonObject, str], Sequence[Machine]]
) -> tuple[Machine, ...]:
    """All entries of a list that may be null, but then shows nothing."""
    path = f"{report.path}.{name}"
    entries = report.array(name) if name in report else []
    if not entries:
        raise MalformedEvidence(
            "unsupported evidence format: no list of instances with evidence", id=ID, field=path
        )
    return tuple(read_list(entries, read, path=path))


def _keys(exchange: Recorded) -> dict[str, str]:
    """The encryption key of each instance, as text: Chutes hashes the text."""
    if "instances" not in exchange.beside:
        raise MalformedEvidence(
            "unsupported evidence format: the list of the instances' encryption keys is missing",
            id=ID,
            field="instances",
            want=f"a recorded answer of {_INSTANCES}",
        )
    listed = JsonObject.parse(exchange.beside["instances"], path="instances", id=ID)
    found: dict[str, str] = {}
    for entry in listed.objects("instances") if "instances" in listed else ():
        name = entry.text("instance_id")
        if name in found:
            raise MalformedEvidence(
                "instances: one instance with two keys", id=ID, field="instances", got=name[:40]
            )
        found[name] = entry.text("e2e_pubkey")
    return found


def _checked_key(text: str) -> str:
    """The text of a key that can be one."""
    base64_bytes(text, field="e2e_pubkey", id=ID, length=_KEY_BYTES)
    return text


def _ask(asking: Asking) -> Generator[Ask, Told, Recorded]:
    """Find the model's chute, then its instances' keys, then their evidence."""
    listed = yield Ask(what="list of models", path="/v1/models")
    chute = _chute(JsonObject.parse(listed.body, path="models", id=ID), asking.model)
    instances = yield Ask(what="list of instances", path=fill(_INSTANCES, {"id": chute}), host=_API)
    path, query = fill(_EVIDENCE, {"id": chute}), {"nonce": asking.nonce.hex()}
    evidence = yield Ask(what="report", path=path, query=query, host=_API)
    return Recorded(
        path=path,
        query=query,
        body=evidence.body,
        peer_spki_sha256=None,  # the connection ends at Chutes' own front
        host=_API,
        beside={"instances": instances.body},
    )


def _chute(listed: JsonObject, model: str | None) -> str:
    """The id under which Chutes runs a model."""
    for entry in listed.objects("data"):
        if model is not None and entry.text("id") == model:
            name = entry.text("chute_id")
            if _CHUTE.fullmatch(name):
                return name
    raise EndpointUnavailable(
        "the endpoint lists no such model",
        id="endpoint.report",
        got=repr(model)[:80],
        hint="Pass the model's name as the endpoint lists it.",
    )


_CANNOT = (
    "which code runs: there is no event log, only registers to be pinned",
    "what an answer was, to anybody else: answers carry no signature",
    "that no piece of a streamed answer was left out: its pieces are not numbered",
)
CHUTES = Dialect(
    id="chutes",
    hosts=("llm.chutes.ai", _API),
    report_path=_EVIDENCE,
    read=read_instances,
    text="instances of a model; binds nonce, encryption key (ML-KEM) and TLS key; GPUs by a nonce "
    "made of the key",
    beside={"instances": _INSTANCES},
    questions=_ask,
    encryption="chutes",
    form=None,
    proves=(
        "that the encryption key and the TLS key of an instance are held by a genuine VM",
        "that its GPUs answered a nonce made of your nonce and that encryption key",
    ),
    cannot=_CANNOT,
)
CHUTES_RESOLD = Dialect(
    id="chutes-resold",
    hosts=(),
    report_path="/v1/attestation/report",
    also_at=("/api/v1/tee/attestation",),
    read=read_resold,
    text="Chutes' instances as a reseller shows them, without certificates: never bound whole",
    form=None,
    proves=(),
    cannot=(
        "anything: without the TLS keys' certificates nothing is compared whole",
        *_CANNOT,
    ),
)

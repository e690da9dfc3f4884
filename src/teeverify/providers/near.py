"""NEAR AI: gateway ``cloud-api.near.ai`` and model nodes ``*.completions.near.ai``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from teeverify.appraisal.evidence import Deployed, Machine
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.providers.certificate import spki_sha256_of_pem
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import (
    ID,
    PROXY_CANNOT,
    PROXY_PROVES,
    read_enclosed,
    read_flat_report,
    read_list,
    read_nodes,
)
from teeverify.providers.ohttp import read_ohttp_key

__all__ = ["NEAR", "NEAR_DIRECT", "read_compose_manager", "read_gateway"]

_KIN = "NEAR AI"
_ACTION_FIELDS = (
    "timestamp",
    "action",
    "tag",
    "commit",
    "file",
    "file_sha256",
    "services",
    "container",
    "image",
)


def read_gateway(exchange: Recorded) -> tuple[Machine, ...]:
    """Read the gateway's report: itself, the model nodes behind it, their compose-managers.

    Raises:
        MalformedEvidence: A field is missing or has another form.
        BindingMismatch: The certificate in the report is not the one whose key it names.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    tls = exchange.query.get("include_tls_fingerprint") == "true"
    gateway = read_flat_report(
        report.object("gateway_attestation"),
        role="gateway",
        label="gateway",
        tls=tls,
        peer_spki_sha256=exchange.peer_spki_sha256,
    )
    if tls and "tls_certificate" in report:
        _same_certificate(report, gateway)

    def read(entry: JsonObject, label: str) -> list[Machine]:
        found = read_node(entry, label=label, tls=tls)
        return [replace(machine, kin=_KIN, managed=True) for machine in found]

    nodes = read_list(report.array("model_attestations"), read, path="report.model_attestations")
    return (replace(gateway, kin=_KIN, ohttp=read_ohttp_key(report, id=ID)), *nodes)


def _same_certificate(report: JsonObject, gateway: Machine) -> None:
    fingerprint = spki_sha256_of_pem(report.text("tls_certificate"))
    if fingerprint != gateway.tls_spki_sha256:
        raise BindingMismatch(
            "the TLS certificate in the report does not hold the key that the report names",
            id="endpoint.bound",
            got=fingerprint.hex(),
            want=(gateway.tls_spki_sha256 or b"").hex(),
        )


def read_node(
    report: JsonObject,
    *,
    label: str,
    tls: bool,
    extra_names: tuple[str, ...] = (),
    peer_spki_sha256: bytes | None = None,
) -> list[Machine]:
    """Read a model node's report, and its compose-manager's if there is one.

    Args:
        report: The node's object.
        label: Its name in findings.
        tls: Whether the TLS key was asked for.
        extra_names: Further names under which the provider serves this model.
        peer_spki_sha256: Fingerprint of the connection's TLS key, if known.

    Raises:
        MalformedEvidence: A field is missing or has another form.
    """
    model = read_flat_report(
        report,
        role="model",
        label=label,
        tls=tls,
        extra_names=extra_names,
        peer_spki_sha256=peer_spki_sha256,
    )
    model = replace(model, ohttp=read_ohttp_key(report, id=ID))
    if "compose_manager_attestation" not in report:
        return [model]
    manager = read_compose_manager(
        report.object("compose_manager_attestation"), label=f"{label} compose-manager"
    )
    return [model, manager]


def read_compose_manager(report: JsonObject, *, label: str) -> Machine:
    """Read a compose-manager's log of actions, with its own quote.

    Raises:
        MalformedEvidence: A field is missing or has another form, or the log does not have the
            hash that stands beside it.
    """
    stated = report.hex("actions_hash", 32)
    spelling = next(
        (name for name, digest in _spellings(report.array("actions")) if digest == stated), None
    )
    if spelling is None:
        raise MalformedEvidence(
            "the compose-manager's log does not have the hash that stands beside it",
            id="code.compose-manager",
            field=f"{report.path}.actions_hash",
            got=stated.hex(),
            want="SHA-256 of the log in one of its three known spellings",
        )
    return Machine(
        role="compose-manager",
        label=label,
        quote=report.hex("quote", prefix=True),
        layout="near-compose-manager",
        actions_hash=stated,
        event_log=report.raw("event_log"),
        nonce=hex_bytes(report.text("nonce"), field=f"{report.path}.nonce", id=ID, length=32),
        deployed=_deployed(report.array("actions")),
    )


def _deployed(actions: list[Any]) -> tuple[Deployed, ...]:
    """Every file that was brought up and never taken down whole since, the last one last.

    Parts of a file may be taken down or brought up alone, so each hash counts that it had since it
    was last down as a whole: any of them may still run.
    """
    up: dict[Deployed, None] = {}
    for action in actions:
        if not isinstance(action, dict) or not isinstance(action.get("file"), str):
            continue
        file = action["file"]
        if action.get("action") == "compose_up":
            found = Deployed(file=file, sha256=_sha256(action.get("file_sha256")))
            up.pop(found, None)
            up[found] = None
        elif action.get("action") == "compose_down" and "services" not in action:
            up = {each: None for each in up if each.file != file}
    return tuple(up)


def _sha256(value: object) -> bytes | None:
    try:
        return hex_bytes(value, field="file_sha256", id="code.compose-manager", length=32)
    except MalformedEvidence:
        return None


def _spellings(actions: list[Any]) -> list[tuple[str, bytes]]:
    """The three ways in which releases of the compose-manager hashed the same list.

    Compact JSON with sorted keys (since 2026-06-29), as transported, and in the order of the
    program's own fields (2026-04). The one exception to 'never tried in turn' (docs/adr/0004):
    all three are the same log, and the hash must equal the quoted one in any case.
    """
    orders: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("sorted keys", _sorted),
        ("as transported", lambda action: action),
        ("field order", _field_order),
    )
    return [
        (name, hashlib.sha256(_compact([order(action) for action in actions])).digest())
        for name, order in orders
    ]


def _sorted(action: Any) -> Any:  # noqa: ANN401
    return dict(sorted(action.items())) if isinstance(action, dict) else action


def _field_order(action: Any) -> Any:  # noqa: ANN401
    if not isinstance(action, dict):
        return action
    known = {name: action[name] for name in _ACTION_FIELDS if name in action}
    return {**known, **{k: v for k, v in action.items() if k not in known}}


def _compact(value: Any) -> bytes:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _read_direct(exchange: Recorded) -> tuple[Machine, ...]:
    query: Mapping[str, str] = exchange.query
    report = JsonObject.parse(exchange.body, path="report", id=ID)

    def read(entry: JsonObject, label: str) -> list[Machine]:
        found = read_node(
            entry,
            label=label,
            tls=query.get("include_tls_fingerprint") == "true",
            peer_spki_sha256=exchange.peer_spki_sha256,
        )
        return [replace(machine, managed=True) for machine in found]

    return tuple(read_nodes(report, read))


_ASKS = {"signing_algo": "ecdsa", "include_tls_fingerprint": "true"}
_SIGNED_ROUTES = ("/chat/completions", "/completions", "/responses")
_COMPOSE_PROVES = (
    "which file the node's compose-manager deployed, if you list its hash (model.deployments)"
)

NEAR = Dialect(
    id="near",
    hosts=("cloud-api.near.ai",),
    report_path="/v1/attestation/report",
    read=read_gateway,
    text="gateway and model nodes; binds key, nonce and (on request) TLS key; GPUs by equal nonce",
    signature_path="/signature/{id}",
    signed_routes=_SIGNED_ROUTES,
    asks=_ASKS,
    asks_signature={"signing_algo": "ecdsa"},
    encryption="near-v2",
    proves=(
        *PROXY_PROVES,
        "that your TLS connection ends in the attested gateway",
        "that gateway and nodes are served by one key service",
        _COMPOSE_PROVES,
    ),
    cannot=(
        "that this gateway asked one of these nodes: nothing signed names both",
        "that the prompt stayed unread in the gateway, where it is plain text",
        *PROXY_CANNOT,
    ),
)
NEAR_DIRECT = Dialect(
    id="near-direct",
    hosts=(".completions.near.ai",),
    report_path="/v1/attestation/report",
    read=_read_direct,
    text="one model node without the gateway; binds as near",
    signature_path="/signature/{id}",
    signed_routes=_SIGNED_ROUTES,
    enclosed=read_enclosed,
    asks=_ASKS,
    asks_signature={"signing_algo": "ecdsa"},
    encryption="near-v2",
    proves=(
        *PROXY_PROVES,
        "that your TLS connection ends in the node itself",
        _COMPOSE_PROVES,
    ),
    cannot=PROXY_CANNOT,
)

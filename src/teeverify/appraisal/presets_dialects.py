"""The rows and parameters of the policy table that are about nodes, chains and applications."""

from __future__ import annotations

from teeverify.appraisal.rows import Parameter, Row

__all__ = ["DIALECT_PARAMETERS", "DIALECT_ROWS"]

_SHA256 = "[0-9a-fA-F]{64}"
_NOTE_ONLY = {
    "nodes.set-aside": "recorded only: nodes of a list that do not count",
    "chain.path": "recorded only: the hops, where the chain ends, and who saw plain text",
    "code.dstack": "recorded only: app, instance, OS image and key provider by the replayed log",
    "code.device": "recorded only: the device that the report names",
    "encryption.key-bound": "recorded only: whether a key to encrypt to is bound by the evidence; "
    "a wrong signature of it always refuses",
    "answer.unsigned": "recorded only: the dialect binds no key that could sign an answer",
    "model.requested": "recorded only: who says which model was asked for",
    "model.reported": "recorded only: the report's own name of the model",
    "model.signed": "recorded only: the model that the signed text or answer names",
}

DIALECT_ROWS: tuple[Row, ...] = (
    Row(
        id="chain.gateway",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="gateway and node are of one operator, where the dialect says that they are; "
        "different key services always refuse",
    ),
    Row(
        id="engine.location",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the engine was started and is watched by the attested server itself, where its "
        "configuration is bound; one outside the machine always refuses",
    ),
    Row(
        id="code.dstack-listed",
        genuine="asserted",
        strict="asserted",
        floor="asserted",
        asks="the application is one that your policy lists, where it lists any",
    ),
    Row(
        id="model.deployed",
        genuine="note",
        strict="note",
        floor="note",
        asks="where a compose-manager's log is present, which files it deployed; one that you did "
        "not list always refuses if you list any",
    ),
    *(
        Row(id=name, genuine="note", strict="note", floor="note", asks=asks)
        for name, asks in _NOTE_ONLY.items()
    ),
)


def _list(name: str, asks: str, form: str) -> Parameter:
    return Parameter(name=name, genuine=[], strict=[], wish=True, asks=asks, form=form)


DIALECT_PARAMETERS: tuple[Parameter, ...] = (
    _list("dstack.app_ids", "if not empty: the only applications accepted", "[0-9a-fA-F]{40}"),
    _list("dstack.compose_hashes", "if not empty: the only configurations accepted", _SHA256),
    _list("dstack.os_images", "if not empty: the only OS images accepted", _SHA256),
    _list(
        "dstack.key_providers",
        "if not empty: the only key providers accepted, by id",
        "(?:[0-9a-fA-F]{2}){1,256}",
    ),
    _list("dstack.instances", "if not empty: the only instances accepted", "[0-9a-fA-F]{40}"),
    _list(
        "dstack.devices",
        "if not empty: the only devices accepted, which the report alone names",
        _SHA256,
    ),
    _list(
        "signer.key_services",
        "ids of key services whose keys count as the machine's own",
        "(?:[0-9a-fA-F]{2}){1,256}",
    ),
    _list(
        "model.deployments",
        "if not empty: SHA-256 of the only files that a compose-manager may have deployed",
        _SHA256,
    ),
)

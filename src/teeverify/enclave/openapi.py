"""The server's routes as OpenAPI 3.1, for tools that read it and for fuzzers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["describe"]

_OBJECT = {"type": "object"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}
_TEXT = {"type": "string"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_OURS = "teeverify/1"
_HEADERS = ("Teeverify-Challenge", "Teeverify-Instance")


def describe(answers: Iterable[str], dialects: Iterable[str]) -> dict[str, Any]:
    """Describe a server.

    Args:
        answers: The routes whose answers are signed.
        dialects: The dialects that it speaks.
    """
    spoken = list(dialects)
    ours = _OURS in spoken
    flat = [] if spoken == [_OURS] else [_parameter("signing_algo", {"enum": ["ecdsa", "ed25519"]})]
    chosen = [*flat, _parameter("dialect", {"enum": spoken}), _parameter("model", _TEXT)]
    nonce = _parameter("nonce", {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}, required=True)
    answer_id = {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    about = [_parameter("instance", _DIGEST)] if ours else []
    about += [_parameter("signing_address", _TEXT)] if flat else []
    heads = [_parameter(name, _DIGEST, place="header") for name in _HEADERS] if ours else []
    return {
        "openapi": "3.1.0",
        "info": {"title": "teeverify enclave server", "version": "1"},
        "paths": {
            "/health": _get(_health()),
            "/metrics": _get(_answers(401, kind="text/plain")),
            "/v1/metrics": _get(_answers(401, 502, kind="text/plain")),
            "/v1/models": _get(_answers(401, 502)),
            "/v1/attestation/report": _get(_answers(400, 404, 429, 503), nonce, *about, *chosen),
            "/v1/signature/{id}": _get(_answers(400, 401, 404, 503), answer_id, *chosen),
            **{path: {"post": _post(heads)} for path in answers},
        },
    }


def _parameter(
    name: str, schema: Mapping[str, Any], *, required: bool = False, place: str = "query"
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _get(responses: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"parameters": list(parameters), "responses": responses}}


def _post(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["model"],
        "properties": {"model": _TEXT, "stream": {"type": "boolean"}},
    }
    found = _answers(400, 401, 404, 408, 413, 415, 421, 422, 429, 502, 503)
    found["200"]["content"]["text/event-stream"] = {"schema": _TEXT}
    return {
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": found,
    }


def _health() -> dict[str, Any]:
    content = {"application/json": {"schema": {**_OBJECT, "required": ["status"]}}}
    wrong = {"description": "no answer can be made, or none be kept", "content": content}
    return {**_answers(), "503": wrong}


def _answers(*errors: int, kind: str = "application/json") -> dict[str, Any]:
    schema = _OBJECT if kind == "application/json" else _TEXT
    good = {"description": "OK", "content": {kind: {"schema": schema}}}
    bad = {"description": "an error", "content": {"application/json": {"schema": _ERROR}}}
    return {"200": good, **{str(status): bad for status in sorted({405, *errors})}}

"""``teeverify/1`` (docs/protocol.md): statements about every exchange, and GPUs bound to our keys.

A client asks for it with the header ``Teeverify-Challenge``. Errors are signed as errors and carry
their statement with them; only what may have to be asked for later is stored.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from teeverify.binding import Process
from teeverify.binding.teeverify1 import Device
from teeverify.clock import now
from teeverify.enclave.asgi import Header, json_bytes
from teeverify.enclave.collectors import CpuEvidence, DeviceEvidence, Tee
from teeverify.enclave.dialects import Certificate
from teeverify.enclave.errors import HttpError
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.keys import SigningKeys
from teeverify.enclave.store import SignatureRecord
from teeverify.encoding.jcs import canonical_json
from teeverify.encoding.strict import base64_bytes, hex_bytes
from teeverify.errors import EndpointUnavailable, MalformedEvidence
from teeverify.providers.teeverify import device_of
from teeverify.responses.statement import Statement, write_header, write_signed, write_trailer

__all__ = ["NAME", "TeeverifyDialect"]

NAME = "teeverify/1"
_CHALLENGE, _INSTANCE = b"teeverify-challenge", b"teeverify-instance"
_HEX = re.compile(r"[0-9a-f]{64}")
_ENGINE = ("kind", "location", "model", "weights")
_NONCE_BYTES = 32
_OK = 200
# So that a statement stays within its 4 KiB.
_MAX_TARGET = 1024
_MAX_TYPE = 200
_VISIBLE = re.compile(rb"[ -~]*")


@dataclass(frozen=True, slots=True)
class _Question:
    """What a client asks of the report's route."""

    nonce: bytes


class TeeverifyDialect:
    """``teeverify/1`` of one process: its own keys, configuration and devices.

    Args:
        model: The name of the model that is served.
        engine: Kind, location, model and weights of the engine.
        routes: The routes whose answers are signed.
        dialects: The names of all dialects that this server speaks.
        version: The server's version.
        ttl_seconds: How long statements are kept.
        attested: The keys that the evidence is for. Only a fault to be tested against gives others
            than those that sign.
        tls_spki_sha256: Fingerprint of the TLS key; ``None`` where plain HTTP is spoken.
    """

    name = NAME
    marker = _CHALLENGE

    def __init__(  # noqa: PLR0913 -- what the configuration names
        self,
        *,
        model: str,
        engine: Mapping[str, object],
        routes: Sequence[str],
        dialects: Sequence[str],
        version: str,
        ttl_seconds: int,
        attested: SigningKeys | None = None,
        tls_spki_sha256: bytes | None = None,
    ) -> None:
        self._tls = tls_spki_sha256
        self.keys = SigningKeys()
        self._attested = attested or self.keys
        self._model = model
        self._engine = {name: str(engine.get(name, "")) for name in _ENGINE}
        config = {
            "dialects": sorted(dialects),
            "engine": {**self._engine, "name": model},
            "key_origin": "process",
            "routes": sorted(routes),
            "server": {"name": "teeverify", "source": "pypi:teeverify", "version": version},
            "signature_ttl_seconds": ttl_seconds,
            "type": "teeverify/1 config",
        }
        self._config = canonical_json(config, field="config", id="usage.serve")
        self._process: Process | None = None
        self._sequence = 0

    def prepare(self, tee: Tee) -> None:
        """Take down which devices there are: they are part of what this process is.

        Their certificates must be known before the nonce is that they answer, so they are asked
        once for nothing.

        Raises:
            EndpointUnavailable: The machine gives none.
            BindingMismatch: One device is there twice.
        """
        shown = _ordered(tee.devices(secrets.token_bytes(_NONCE_BYTES)))
        identities = self._attested.identities
        self._process = Process(
            address=identities["ecdsa"].identifier,
            ed25519=identities["ed25519"].identifier,
            tls_spki_sha256=self._tls,
            config=self._config,
            devices=tuple(replace(device, evidence_sha256=b"") for device, _ in shown),
        )

    @property
    def process(self) -> Process:
        """What this process binds.

        Raises:
            EndpointUnavailable: It was not prepared.
        """
        if self._process is None:
            raise EndpointUnavailable("the devices are not known yet", id="endpoint.devices")
        return self._process

    def question(self, query: Mapping[str, str]) -> Hashable:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        if query.get("model", self._model) != self._model:
            raise HttpError.unknown_model()
        nonce = query.get("nonce", "")
        if not _HEX.fullmatch(nonce):
            raise HttpError.bad_request(
                "a nonce of your own is needed: 64 lower-case hex digits, random, used once",
                param="nonce",
            )
        if query.get("instance", self.process.instance.hex()) != self.process.instance.hex():
            raise HttpError(404, "this instance is not of this server")
        return _Question(hex_bytes(nonce, field="nonce", id="server.nonce"))

    def report(self, question: Hashable, tee: Tee) -> bytes:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        nonce = cast("_Question", question).nonce
        known = self.process
        shown = _ordered(tee.devices(known.gpu_nonce(nonce)))
        process = replace(known, devices=tuple(device for device, _ in shown))
        if process.mid != known.mid:
            raise EndpointUnavailable(
                "the devices are others than at the start: start the server anew",
                id="endpoint.devices",
            )
        cpu = tee.quote(process.report_data(nonce))
        report: dict[str, Any] = {
            "type": f"{NAME} attestation",
            "binding": _base64url(process.binding(nonce)),
            "config": _base64url(self._config),
            "platform": tee.platform,
            "evidence": _base64(cpu.quote),
            "secp256k1_public_key": self._attested.public_keys["ecdsa"].hex(),
            "devices": [
                {"kind": one.kind, "certificate": one.certificate, "evidence": one.evidence}
                for _, one in shown
            ],
            **_guest(cpu),
        }
        endorsements = tee.endorsements()
        if endorsements is not None:
            report["endorsements"] = endorsements
        return json_bytes(report)

    def record_kind(self, query: Mapping[str, str]) -> str:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        del query
        return NAME

    def admit(self, exchange: Exchange) -> None:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        challenge = exchange.header(_CHALLENGE)
        if challenge and not _HEX.fullmatch(challenge.decode("latin-1")):
            raise HttpError.bad_request("Teeverify-Challenge: not 64 lower-case hex digits")
        wanted = exchange.header(_INSTANCE)
        if wanted and wanted.decode("latin-1") != self.process.instance.hex():
            raise HttpError(421, "another instance of the server is asked for", code="instance")
        if len(exchange.target) > _MAX_TARGET or not _VISIBLE.fullmatch(exchange.target):
            raise HttpError.bad_request("the request's target is too long, or not ASCII")
        kind = exchange.request_type
        if len(kind) > _MAX_TYPE or not _VISIBLE.fullmatch(kind):
            raise HttpError.bad_request("the request's content type is too long, or not ASCII")

    def begin(self, exchange: Exchange) -> tuple[Header, ...]:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        return (
            (b"teeverify-id", exchange.id.encode("ascii")),
            (b"teeverify-instance", self.process.instance.hex().encode("ascii")),
        )

    def certify(self, exchange: Exchange) -> Certificate | None:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        statement = self._statement(exchange)
        try:
            raw = statement.to_bytes()
        except MalformedEvidence:
            raise HttpError.engine_failed("the engine's answer cannot be described") from None
        signatures = self.keys.sign_statement(statement.digest, statement.message)
        record = SignatureRecord(
            id=exchange.id, kind=NAME, body=write_signed(statement, signatures)
        )
        return Certificate(
            records=(record,) if exchange.status == _OK else (),
            headers=(
                (b"teeverify-statement", _base64url(raw).encode("ascii")),
                (b"teeverify-signature", write_header(signatures).encode("ascii")),
            ),
            trailer=write_trailer(statement, signatures),
        )

    def _statement(self, exchange: Exchange) -> Statement:
        self._sequence += 1
        body = exchange.request
        return Statement(
            challenge=_challenge(exchange),
            end="complete" if exchange.end == "complete" else "aborted",
            engine=self._engine,
            id=exchange.id,
            instance=self.process.instance,
            method=exchange.method,
            target=_text(exchange.target),
            request_type=_text(exchange.request_type),
            request_hash=None if body is None else f"sha256:{body.sha256.hex()}",
            request_length=0 if body is None else len(body.data),
            status=exchange.status,
            response_type=exchange.response_type.decode("latin-1"),
            response_hash=f"sha256:{exchange.response_sha256.hex()}",
            response_length=exchange.length,
            events=exchange.events,
            upstream_id=exchange.upstream_id,
            sequence=self._sequence,
            time_ms=int(now().timestamp() * 1000),
        )


def _ordered(shown: Sequence[DeviceEvidence]) -> list[tuple[Device, DeviceEvidence]]:
    """The devices as they are bound, in the order in which they are."""
    found = [
        (device_of(one.kind, _bytes(one.certificate), _bytes(one.evidence)), one) for one in shown
    ]
    return sorted(found, key=lambda each: each[0].name)


def _bytes(text: str) -> bytes:
    return base64_bytes(text, field="device", id="endpoint.devices")


def _guest(cpu: CpuEvidence) -> dict[str, object]:
    """What a guest agent shows beside the quote, where there is one."""
    found: dict[str, object] = {}
    if cpu.event_log:
        found["event_log"] = cpu.event_log
    info = cpu.info.get("tcb_info")
    compose = info.get("app_compose") if isinstance(info, dict) else None
    if isinstance(compose, str):
        found["app_compose"] = compose
    certificates = getattr(cpu, "certificates", b"")
    if certificates:
        found["certificates"] = _base64(certificates)
    return found


def _challenge(exchange: Exchange) -> bytes | None:
    text = exchange.header(_CHALLENGE).decode("latin-1")
    if not _HEX.fullmatch(text):
        return None
    return hex_bytes(text, field="challenge", id="server.nonce")


def _text(raw: bytes) -> str:
    """Text of a request that was admitted; of a refused one, what of it can be said in ASCII."""
    return raw[:_MAX_TARGET].decode("ascii", "replace").encode("ascii", "replace").decode("ascii")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")

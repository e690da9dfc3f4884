"""The flat dialects of the field: ``dstack``, ``phala`` and ``near``.

All three bind the signing key and the nonce into the CPU's quote (layout ``dstack-padded``), and
sign the text of both hashes; they differ in how they write it down. They have no way to say that an
answer is an error or has broken off, so only whole answers with status 200 are signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from teeverify.binding.keys import KeyAlgorithm
from teeverify.enclave.asgi import Header, json_bytes
from teeverify.enclave.collectors import DeviceEvidence, Tee
from teeverify.enclave.dialects import Certificate
from teeverify.enclave.errors import HttpError
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.keys import Signature, SigningKeys
from teeverify.enclave.store import SignatureRecord
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence

__all__ = ["FLAT_DIALECTS", "FlatDialect", "FlatName"]

FlatName: TypeAlias = Literal["dstack", "phala", "near"]
FLAT_DIALECTS: tuple[FlatName, ...] = ("dstack", "phala", "near")
_HEAD = 32


@dataclass(frozen=True, slots=True)
class _Question:
    """What a client asks of the report's route."""

    nonce: bytes
    algorithm: KeyAlgorithm
    tls: bool


class FlatDialect:
    """One of the flat dialects.

    Args:
        name: Which.
        model: The name of the model that is served.
        engine: What is said about the engine beside the report: kind, location, weights.
        attested: The keys that the evidence is for. Only a fault to be tested against gives
            others than those that sign.
        tls_spki_sha256: Fingerprint of the TLS key; ``None`` where plain HTTP is spoken.
    """

    def __init__(
        self,
        name: FlatName,
        *,
        model: str,
        engine: Mapping[str, object] | None = None,
        attested: SigningKeys | None = None,
        tls_spki_sha256: bytes | None = None,
    ) -> None:
        self.name = name
        self._tls = tls_spki_sha256
        self.keys = SigningKeys()
        self._attested = attested or self.keys
        self._model = model
        self._engine = dict(engine or {})
        self._addresses = {key: self._spelt(str(key)) for key in self.keys.identities.values()}

    marker = b""

    def admit(self, exchange: Exchange) -> None:
        """These know no header of their own."""

    def begin(self, exchange: Exchange) -> tuple[Header, ...]:
        """Their answers carry nothing."""
        del exchange
        return ()

    def question(self, query: Mapping[str, str]) -> Hashable:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        self._require_model(query)
        algorithm = _algorithm(query)
        try:
            nonce = hex_bytes(query.get("nonce"), field="nonce", id="server.nonce", length=32)
        except MalformedEvidence:
            raise HttpError.bad_request(
                "a nonce of your own is needed: 64 hex digits, random, used once", param="nonce"
            ) from None
        address = query.get("signing_address")
        if address is not None and not self._attests(algorithm, address):
            raise HttpError(404, "this signing address is not of this server")
        tls = query.get("include_tls_fingerprint", "false") != "false"
        if tls and self._tls is None:
            raise HttpError.bad_request(
                "this server speaks plain HTTP: it has no TLS key to attest",
                param="include_tls_fingerprint",
            )
        return _Question(nonce, algorithm, tls)

    def report(self, question: Hashable, tee: Tee) -> bytes:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        asked = cast("_Question", question)
        key = self._attested.identities[asked.algorithm]
        devices = tee.devices(asked.nonce)
        fingerprint = self._tls if asked.tls else None
        head = key.identifier.ljust(_HEAD, b"\0")
        if fingerprint is not None:
            head = hashlib.sha256(key.identifier + fingerprint).digest()
        cpu = tee.quote(head + asked.nonce)
        report: dict[str, Any] = {
            "model_name": self._model,
            "signing_address": self._spelt(str(key)),
            "signing_algo": key.algorithm,
            "signing_public_key": self._attested.public_keys[asked.algorithm].hex(),
            "request_nonce": asked.nonce.hex(),
            "intel_quote": cpu.quote.hex(),
            "nvidia_payload": _payload(devices, asked.nonce),
            "event_log": self._log(cpu.event_log),
            "info": cpu.info,
            "vm_config": cpu.vm_config,
        }
        if fingerprint is not None:
            report["tls_cert_fingerprint"] = fingerprint.hex()
        if self.name == "phala":
            report["quote"] = report["intel_quote"]
        if self.name != "dstack":
            report["all_attestations"] = [dict(report)]
        if self._engine:
            report["engine"] = self._engine
        endorsements = tee.endorsements()
        if endorsements is not None:
            report["endorsements"] = endorsements
        return json_bytes(report)

    def record_kind(self, query: Mapping[str, str]) -> str:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        self._require_model(query)
        return f"{self.name}/{_algorithm(query)}"

    def certify(self, exchange: Exchange) -> Certificate | None:
        """See :class:`~teeverify.enclave.dialects.ServerDialect`."""
        if not exchange.answered or exchange.request is None:
            return None
        answer_id = exchange.upstream_id
        if answer_id is None:
            raise HttpError.engine_failed("the engine's answer has no id to keep a signature under")
        text = f"{exchange.request.sha256.hex()}:{exchange.response_sha256.hex()}"
        if self.name == "near":
            text = f"{self._model}:{text}"
        signed = self.keys.sign(text)
        return Certificate(records=tuple(self._record(answer_id, text, one) for one in signed))

    def _record(self, answer_id: str, text: str, signature: Signature) -> SignatureRecord:
        key = signature.key
        body = {
            "text": text,
            "signature": signature.text,
            "signing_address": self._addresses[key],
            "signing_algo": key.algorithm,
        }
        kind = f"{self.name}/{key.algorithm}"
        return SignatureRecord(id=answer_id, kind=kind, body=json_bytes(body))

    def _spelt(self, address: str) -> str:
        """Ethereum's addresses with their checksum, but at NEAR in lower case."""
        return address.lower() if self.name == "near" else address

    def _log(self, events: Sequence[Mapping[str, object]]) -> object:
        if not events:
            return None  # the kernel's interfaces know of none; an empty one would be another claim
        return json.dumps(events) if self.name == "phala" else events

    def _attests(self, algorithm: KeyAlgorithm, address: str) -> bool:
        own = str(self._attested.identities[algorithm])
        return address.removeprefix("0x").lower() == own.removeprefix("0x").lower()

    def _require_model(self, query: Mapping[str, str]) -> None:
        if query.get("model", self._model) != self._model:
            raise HttpError.unknown_model()


def _payload(devices: Sequence[DeviceEvidence], nonce: bytes) -> str:
    listed = [
        {"certificate": one.certificate, "evidence": one.evidence, "arch": one.arch}
        for one in devices
    ]
    arch = listed[0]["arch"] if listed else ""
    return json.dumps({"nonce": nonce.hex(), "evidence_list": listed, "arch": arch})


def _algorithm(query: Mapping[str, str]) -> KeyAlgorithm:
    algorithm = query.get("signing_algo", "ecdsa")
    if algorithm == "ecdsa":
        return "ecdsa"
    if algorithm == "ed25519":
        return "ed25519"
    raise HttpError(
        400,
        "signing_algo is ecdsa or ed25519",
        kind="invalid_signing_algo",
        param="signing_algo",
    )

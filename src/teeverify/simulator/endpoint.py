"""A fake provider: reports in the dialects of the field, recordings of them, and signed answers.

Everything in it verifies under :meth:`Endpoint.roots`, and each part can be overridden alone::

    endpoint = Endpoint(at=moment)
    folder = endpoint.capture(tmp_path / "capture")
    result = Verifier(roots=endpoint.roots()).appraise(folder)
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from teeverify.clock import show_time
from teeverify.simulator.intel import Intel
from teeverify.simulator.intel_records import write_capture
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.machine import NONE, Overrides, SimulatedMachine
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.rim import rim_answer
from teeverify.simulator.vendors import Vendors

__all__ = ["MODEL", "Endpoint"]

Provider: TypeAlias = Literal["near", "venice", "dstack", "phala", "nanogpt", "0g", "0g-broker"]
MODEL = "simulated/tiny-1"
_URLS = {
    "near": "https://cloud-api.near.ai/v1/attestation/report",
    "venice": "https://api.venice.ai/api/v1/tee/attestation",
    "dstack": "https://127.0.0.1/v1/attestation/report",
    "phala": "https://api.redpill.ai/v1/attestation/report",
    "nanogpt": "https://nano-gpt.com/api/v1/tee/attestation",
    "0g": "https://127.0.0.1/v1/proxy/attestation/report",
    "0g-broker": "https://127.0.0.1/v1/quote",
}
_NRAS = "https://nras.attestation.nvidia.com"
_RIM = "https://rim.attestation.nvidia.com"
_OCSP = "http://ocsp.ndis.nvidia.com"


class Endpoint(Vendors):
    """A provider with one model node, and a gateway before it.

    Args:
        at: The time at which everything is made.
        gpus: How many GPUs the model's machine has.
        algorithm: Algorithm of the signing keys.
        intel: Arguments of :class:`Intel`.
    """

    def __init__(
        self,
        *,
        at: datetime,
        gpus: int = 8,
        algorithm: Literal["ecdsa", "ed25519"] = "ecdsa",
        intel: Overrides = NONE,
    ) -> None:
        self.at = at
        self.gpu_count = gpus
        self.intel = Intel(**{"at": at, **intel})
        self.nvidia = Nvidia()
        self.nonce = secrets.token_bytes(32)
        self.model = SimulatedMachine(intel=self.intel, key=SimulatedKey(algorithm))
        self.gateway = SimulatedMachine(intel=self.intel, key=SimulatedKey(algorithm))

    # --- reports -------------------------------------------------------------------------------

    def model_report(
        self,
        *,
        tls: bool = False,
        quote: Overrides = NONE,
        gpu: Overrides = NONE,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """The model node's report with its GPUs.

        Args:
            tls: Whether the TLS key is bound.
            quote: Overrides of the quote.
            gpu: Overrides of every GPU's evidence.
            **overrides: Overrides of the report's members.
        """
        members = {
            "model_name": MODEL,
            "nvidia_payload": self.nvidia.payload(self.nonce, self.gpu_count, **gpu),
            **overrides,
        }
        return self.model.report(self.nonce, tls=tls, quote=quote, **members)

    def compose_manager(
        self,
        *,
        machine: SimulatedMachine | None = None,
        quoted: Overrides = NONE,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """The compose-manager's log of actions, quoted by the model's machine, or another."""
        owner = machine or self.model
        actions = [
            {
                "action": "compose_up",
                "file": "tiny.yaml",
                "file_sha256": hashlib.sha256(b"tiny.yaml").hexdigest(),
                "timestamp": show_time(self.at),
            },
            {"action": "docker_restart", "container": "engine", "timestamp": show_time(self.at)},
        ]
        text = json.dumps(actions, separators=(",", ":"), sort_keys=True)
        digest = hashlib.sha256(text.encode()).digest()
        return {
            "actions": actions,
            "actions_hash": digest.hex(),
            "nonce": self.nonce.hex(),
            "quote": owner.quote(digest + self.nonce, **quoted).hex(),
            "event_log": owner.guest.event_log_text,
            **overrides,
        }

    def near_report(
        self,
        *,
        gateway: Overrides = NONE,
        model: Overrides = NONE,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """The gateway's report with one model node, TLS keys bound."""
        manager = {"compose_manager_attestation": self.compose_manager()}
        return {
            "gateway_attestation": self.gateway.report(self.nonce, tls=True, **gateway),
            "model_attestations": [self.model_report(tls=True, **{**manager, **model})],
            **overrides,
        }

    def venice_report(self, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
        """Venice's words around the model node's report."""
        words = {
            "model": "e2ee-tiny",
            "upstream_model": MODEL,
            "verified": True,
            "compose_manager_attestation": self.compose_manager(),
        }
        return self.model_report(**{**words, **overrides})

    def wrapped_report(
        self,
        *,
        gateway: Overrides = NONE,
        model: Overrides = NONE,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """A reseller's answer: its gateway with one node, no TLS keys bound."""
        return {
            "gateway_attestation": self.gateway.report(self.nonce, **gateway),
            "model_attestations": [self.model_report(**model)],
            **overrides,
        }

    def broker_report(self, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
        """0G's broker: its address as text in ``report_data``, and no nonce."""
        report_data = str(self.gateway.key.key).encode("ascii").ljust(64, b"\0")
        guest = self.gateway.guest
        return {
            "quote": self.gateway.quote(report_data).hex(),
            "event_log": guest.event_log_text,
            "report_data": base64.b64encode(report_data).decode(),
            "tcb_info": json.dumps({"app_compose": guest.app_compose}),
            **overrides,
        }

    # --- recordings ----------------------------------------------------------------------------

    def capture(  # noqa: PLR0913 -- one override a part
        self,
        folder: Path,
        *,
        provider: Provider = "near",
        report: Mapping[str, Any] | None = None,
        collateral: Mapping[str, str] | None = None,
        nras: Overrides | None = NONE,
        manifest: Overrides = NONE,
        peer_spki: bytes | None = None,
        query: Mapping[str, str] | None = None,
        rims: Mapping[str, Overrides] | None = None,
        ocsp: Overrides | None = None,
    ) -> Path:
        """Write what a recorder of this provider would have kept.

        Args:
            folder: Where; made if it is not there.
            provider: Which dialect.
            report: The report, instead of the one that this provider gives.
            collateral: Intel's endorsements, instead of good ones.
            nras: Overrides of NRAS's answer; ``None`` records none.
            manifest: Overrides of the manifest's members.
            peer_spki: TLS key of the recorded connection; the gateway's own by default.
            query: The recorded URL's query, instead of the right one.
            rims: Record NVIDIA's manifests too, with overrides by part (``driver``, ``vbios``).
            ocsp: Record NVIDIA's OCSP answers too, with overrides.

        Returns:
            The folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "near": self.near_report,
            "venice": self.venice_report,
            "dstack": self.model_report,
            "phala": self.model_report,
            "nanogpt": self.model_report,
            "0g": self.model_report,
            "0g-broker": self.broker_report,
        }
        body = report if report is not None else makers[provider]()
        asked = {"nonce": self.nonce.hex(), "model": MODEL}
        if provider == "near":
            asked["include_tls_fingerprint"] = "true"
        parameters = asked if query is None else query
        url = _URLS[provider] + "?" + "&".join(f"{k}={v}" for k, v in parameters.items())
        spki = peer_spki if peer_spki is not None else self.gateway.tls_spki
        self._exchange(folder, 1, "report", url, json.dumps(body).encode(), spki)
        if nras is not None:
            self._record_nras(folder, body, nras)
        self._record_nvidia(folder, rims, ocsp)
        write_capture(folder, collateral or self.intel.collateral(), first=10)
        facts = {
            "provider": provider,
            "model": "e2ee-tiny" if provider == "venice" else MODEL,
            "nonce_hex": self.nonce.hex(),
            "captured_at": show_time(self.at),
            **manifest,
        }
        kept = {name: value for name, value in facts.items() if value is not None}
        (folder / "manifest.json").write_text(json.dumps(kept))
        return folder

    def _record_nras(self, folder: Path, report: Mapping[str, Any], nras: Overrides) -> None:
        node = report["model_attestations"][0] if "model_attestations" in report else report
        if "nvidia_payload" not in node:
            return
        evidence = json.loads(node["nvidia_payload"])["evidence_list"]
        answer, jwks = self.nvidia.nras_answer(evidence, self.nonce, self.at, **nras)
        self._exchange(folder, 2, "nras", f"{_NRAS}/v3/attest/gpu", answer, None)
        self._exchange(folder, 3, "jwks", f"{_NRAS}/.well-known/jwks.json", jwks, None)

    def _record_nvidia(
        self, folder: Path, rims: Mapping[str, Overrides] | None, ocsp: Overrides | None
    ) -> None:
        """Manifests as the RIM service gives them, and OCSP answers."""
        if rims is not None:
            for index, (name, xml) in enumerate(self.nvidia.rims(**rims).items()):
                body = rim_answer(name, xml)
                self._exchange(folder, 40 + index, "rim", f"{_RIM}/v1/rim/{name}", body, None)
        if ocsp is not None:
            devices = [self.nvidia.gpu(index) for index in range(self.gpu_count)]
            for index, body in enumerate(self.nvidia.ocsp_answers(self.at, *devices, **ocsp)):
                self._exchange(folder, 60 + index, "ocsp", f"{_OCSP}/", body, None)

    @staticmethod
    def _exchange(
        folder: Path, number: int, name: str, url: str, body: bytes, spki: bytes | None
    ) -> None:
        head: dict[str, Any] = {"method": "GET", "url": url, "status": 200, "headers": {}}
        if spki is not None:
            head["peer_spki_der_base64"] = base64.b64encode(spki).decode()
        stem = folder / f"{number:04d}_{name}"
        stem.with_suffix(".body").write_bytes(body)
        stem.with_suffix(".http.json").write_text(json.dumps(head))

    def stale_gpu(self, index: int) -> str:
        """A payload in which one GPU's report answers another nonce."""
        entries = self.nvidia.evidence_list(self.nonce, self.gpu_count)
        entries[index] = self.nvidia.gpu(index).evidence(secrets.token_bytes(32))
        return json.dumps({"evidence_list": entries})

    # --- answers -------------------------------------------------------------------------------

    def answer(self, *, stream: bool = True, after: timedelta = timedelta(minutes=1)) -> bytes:
        """The bytes of an answer.

        Args:
            stream: Server-sent events, or one JSON object.
            after: How long after the evidence it says it was made.
        """
        head = {"id": "chatcmpl-1", "created": int((self.at + after).timestamp()), "model": MODEL}
        if not stream:
            choice = {"index": 0, "message": {"role": "assistant", "content": "Four."}}
            return json.dumps({**head, "choices": [choice]}, separators=(",", ":")).encode()
        parts = [
            {**head, "choices": [{"index": 0, "delta": {"content": c}}]} for c in ("Fo", "ur.")
        ]
        events = [f"data: {json.dumps(part, separators=(',', ':'))}\n\n" for part in parts]
        return "".join([*events, "data: [DONE]\n\n"]).encode()

    @staticmethod
    def request() -> bytes:
        """The bytes of a request."""
        message = {"role": "user", "content": "What is two and two?"}
        return json.dumps({"model": MODEL, "messages": [message]}).encode()

    def sign(
        self,
        request: bytes,
        answer: bytes,
        *,
        by: SimulatedKey | None = None,
        model: str | None = MODEL,
        **overrides: Any,  # noqa: ANN401
    ) -> bytes:
        """What the signature route returns for an answer.

        Args:
            request: The request's bytes.
            answer: The answer's bytes.
            by: The key; the model node's own by default.
            model: The model in a three-part text; ``None`` signs a two-part one.
            **overrides: Overrides of the members.
        """
        key = by or self.model.key
        hashes = [hashlib.sha256(part).hexdigest() for part in (request, answer)]
        text = ":".join([model, *hashes] if model is not None else hashes)
        signature = {
            "text": text,
            "signature": key.sign(text),
            "signing_address": str(key.key),
            "signing_algo": key.algorithm,
            **overrides,
        }
        return json.dumps({k: v for k, v in signature.items() if v is not None}).encode()

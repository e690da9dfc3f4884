"""Fake providers whose evidence binds the keys of a channel: one method a provider.

Everything verifies under :meth:`Channels.roots`; what is wrong in a test is overridden alone::

    channels = Channels(at=moment)
    folder = channels.capture(tmp_path / "capture", channels.tinfoil())
    result = Verifier(roots=channels.roots()).appraise(folder)
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.binding import SigningKey
from teeverify.simulator.authority import Authority
from teeverify.simulator.capture import Exchange
from teeverify.simulator.channel_machine import NONE, Shown, b64, compact
from teeverify.simulator.tinfoil import Tinfoil

__all__ = ["Channels", "Shown"]

CHUTE = "5f1e7a9c-0000-4000-8000-000000000001"
MODEL = "simulated/tiny-1"


class Channels(Tinfoil):
    """A machine that shows what each of these providers' machines shows."""

    def chutes(
        self,
        instances: int = 2,
        *,
        changes: Mapping[int, Mapping[str, Any]] = NONE,  # type: ignore[assignment]
        listed: Sequence[int] | None = None,
        quotes: Mapping[int, Mapping[str, Any]] = NONE,  # type: ignore[assignment]
    ) -> Shown:
        """Chutes' instances, each with keys of its own and GPUs of its own.

        Args:
            instances: How many.
            changes: Overrides of single entries of the evidence; ``None`` leaves a member out.
            listed: Which of them the list of keys names; all by default.
            quotes: Overrides of single quotes.
        """
        evidence, keys = [], []
        for index in range(instances):
            key = b64(secrets.token_bytes(1184))
            tls = Authority.root(f"instance {index}")
            spki = tls.certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            digest = hashlib.sha256(spki).digest()
            data = self.report_data("chutes", e2e_public_key=key, tls_spki_sha256=digest)
            name = f"{index:08x}-0000-4000-8000-000000000000"
            first = index * self.gpu_count
            devices = [self.nvidia.gpu(first + number) for number in range(self.gpu_count)]
            entry = {
                "quote": b64(self.cpu("tdx", data, **quotes.get(index, NONE))),
                "gpu_evidence": [device.evidence(data[:32]) for device in devices],
                "instance_id": name,
                "certificate": b64(tls.der),
                "e2e_pubkey": key,
                **changes.get(index, NONE),
            }
            keys.append({"instance_id": name, "e2e_pubkey": entry.pop("e2e_pubkey")})
            evidence.append({k: v for k, v in entry.items() if v is not None})
        named = keys if listed is None else [keys[index] for index in listed]
        root = "https://api.chutes.ai"
        return Shown(
            dialect="chutes",
            exchanges=(
                Exchange(
                    url=f"{root}/chutes/{CHUTE}/evidence",
                    query={"nonce": self.nonce.hex()},
                    body=compact({"evidence": evidence, "failed_instance_ids": None}),
                ),
                Exchange(url=f"{root}/e2e/instances/{CHUTE}", body=compact({"instances": named})),
            ),
        )

    def chutes_resold(self, *, nonce: bytes | None = None) -> Shown:
        """The same as a reseller shows it; under another nonce, if one is given."""
        own = json.loads(self.chutes().exchanges[1].body)["instances"]
        shown = nonce or self.nonce
        entries = []
        for index, one in enumerate(own):
            data = self.report_data("chutes", e2e_public_key=one["e2e_pubkey"], nonce=shown)
            gpus = [self.nvidia.gpu(index * self.gpu_count + n) for n in range(self.gpu_count)]
            entries.append(
                {
                    **one,
                    "nonce": shown.hex(),
                    "intel_quote": b64(self.cpu("tdx", data)),
                    "gpu_evidence": [device.evidence(data[:32]) for device in gpus],
                }
            )
        body = {"attestation_type": "chutes", "nonce": shown.hex(), "all_attestations": entries}
        url = "https://api.redpill.ai/v1/attestation/report"
        asked = {"model": MODEL, "nonce": self.nonce.hex()}
        return Shown(
            dialect="chutes-resold",
            exchanges=(Exchange(url=url, query=asked, body=compact(body)),),
        )

    def secretvm(
        self,
        *,
        platform: str = "tdx",
        gpu: Mapping[str, Any] | None = NONE,
        gpu_nonce: bytes | None = None,
        peer: bytes | None = None,
        cpu: Mapping[str, Any] = NONE,
    ) -> Shown:
        """A SecretVM with its GPUs.

        Args:
            platform: ``tdx`` or ``sev-snp``.
            gpu: Overrides of the GPUs' answer; ``None`` records none.
            gpu_nonce: The nonce of the GPUs; one of the machine's own by default.
            peer: Another TLS key at the other end, in DER.
            cpu: Overrides of the quote or report.
        """
        own = gpu_nonce or secrets.token_bytes(32)
        raw = self.cpu(platform, self.report_data("secretvm", gpu_nonce=own), **cpu)
        text = raw.hex() if platform == "tdx" else b64(raw)
        root, spki = "https://vm.example:29343", self.spki if peer is None else peer
        answers = [Exchange(url=f"{root}/cpu", body=text.encode(), peer_spki=spki)]
        if gpu is not None:
            evidence = json.loads(self.nvidia.payload(own, self.gpu_count))
            body = compact({**evidence, **gpu})
            answers.append(Exchange(url=f"{root}/gpu", body=body, peer_spki=spki))
        return Shown(dialect="secretvm", exchanges=tuple(answers), nonce=False)

    def nilcc(self, *, peer: bytes | None = None, cpu: Mapping[str, Any] = NONE) -> Shown:
        """A nilCC VM, which asks for its report at privilege level 1."""
        raw = self.amd.report(report_data=self.report_data("nilcc"), **{"vmpl": 1, **cpu})
        body = {
            "report": {"version": 3, "report_data": "00" * 64},
            "raw_report": raw.hex(),
            "gpu_token": b64(b'[["JWT","e30.e30."]]'),
            "environment": {"nilcc_version": "0.4.1", "vm_type": "gpu", "cpu_count": 8},
        }
        exchange = Exchange(
            url="https://workload.example/nilcc/api/v2/report",
            body=compact(body),
            peer_spki=self.spki if peer is None else peer,
        )
        return Shown(dialect="nilcc", exchanges=(exchange,), nonce=False)

    def panda(self, *, public_key: bytes | None = None, compose: str | None = None) -> Shown:
        """A published attestation; with another key or configuration than the bound ones."""
        own = b"\x04" + secrets.token_bytes(64)
        data = self.report_data("sha256-pubkey", public_key=own)
        quote = self.intel.quote(
            report_data=data, rtmrs=self.guest.rtmrs, mr_config_id=self.guest.mr_config_id()
        )
        body = {
            "compose_hash": self.guest.compose_hash.hex(),
            "quote": quote.hex(),
            "token": "e30.e30.",
            "event_log": self.guest.event_log,
            "public_key": (public_key or own).hex(),
        }
        root = "https://raw.example/testinprod-io/panda-vllm-proxy/main/deployments/20260629_1"
        text = self.guest.app_compose if compose is None else compose
        return Shown(
            dialect="panda",
            exchanges=(
                Exchange(url=f"{root}_attestation.json", body=compact(body)),
                Exchange(url=f"{root}_compose.json", body=text.encode("utf-8")),
            ),
            nonce=False,
        )

    def near_ita(self, *, key: SigningKey, **runtime: Any) -> Shown:  # noqa: ANN401
        """What a gateway sends to Intel Trust Authority.

        Args:
            key: The gateway's signing key.
            **runtime: Overrides of the runtime data's members; ``None`` leaves one out.
        """
        value, issued = secrets.token_bytes(32), b"2026-06-29 02:06:57 +0000 UTC"
        data = self.report_data("near-ita", key=key, verifier_nonce=value + issued)
        quote = self.intel.quote(report_data=data, rtmrs=self.guest.rtmrs)
        prefix = "0x" if key.algorithm == "ecdsa" else ""
        told = {
            "signing_algo": key.algorithm,
            "signing_address": prefix + key.identifier.hex(),
            "caller_nonce": self.nonce.hex(),
            "tls_cert_fingerprint": self.fingerprint.hex(),
            **runtime,
        }
        gpu_nonce = hashlib.sha256(value + issued).digest()
        body = {
            "tdx": {
                "quote": b64(quote),
                "runtime_data": b64(compact({k: v for k, v in told.items() if v is not None})),
                "event_log": b64(self.guest.event_log_text.encode()),
                "verifier_nonce": {"val": b64(value), "iat": b64(issued), "signature": ""},
            },
            "nvgpu": json.loads(self.nvidia.payload(gpu_nonce, self.gpu_count)),
        }
        exchange = Exchange(
            url="https://api.trustauthority.intel.com/appraisal/v2/attest", body=compact(body)
        )
        return Shown(dialect="near-ita", exchanges=(exchange,))

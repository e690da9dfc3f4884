"""A fake Tinfoil: documents of both versions, and bundles."""

from __future__ import annotations

import base64
import gzip
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.simulator.authority import Authority
from teeverify.simulator.capture import Exchange
from teeverify.simulator.channel_machine import NONE, ChannelMachine, Shown, b64, compact

__all__ = ["Tinfoil"]


class Tinfoil(ChannelMachine):
    """A machine that shows what Tinfoil's enclaves show."""

    def tinfoil(  # noqa: PLR0913 -- one override a part
        self,
        *,
        platform: str = "tdx",
        host: str = "tiny.tinfoil.sh",
        gpu: bool = True,
        bound: Mapping[str, Any] = NONE,
        stated: Mapping[str, Any] = NONE,
        fields: Mapping[str, Any] = NONE,
        signer: ec.EllipticCurvePrivateKey | None = None,
        peer: bytes | None = None,
        **document: Any,  # noqa: ANN401 -- overrides of its members
    ) -> Shown:
        """A document of version 3.

        Args:
            platform: ``tdx`` or ``sev-snp``.
            host: Host of the enclave.
            gpu: Whether it has GPUs.
            bound: Overrides of what the quote binds.
            stated: Overrides of what the document states of it.
            fields: Overrides of the quote or report.
            signer: Another key that signs the document.
            peer: Another TLS key at the other end of the recorded connection, in DER.
            **document: Overrides of the document's members; ``None`` leaves one out.
        """
        devices = {"evidences": self.nvidia.evidence_list(self.nonce, self.gpu_count)}
        digest = hashlib.sha256(compact(devices)).digest() if gpu else None
        data = self.report_data("tinfoil-v3", **{"gpu_evidence_sha256": digest, **bound})
        claimed = {
            "tls_key_fp": self.fingerprint.hex(),
            "hpke_key": self.hpke_key.hex(),
            "nonce": self.nonce.hex(),
            "gpu_evidence_hash": digest.hex() if digest else None,
            **stated,
        }
        members = {
            "format": "https://tinfoil.sh/predicate/attestation/v3",
            "report_data": {name: value for name, value in claimed.items() if value is not None},
            "cpu": {"platform": platform, "report": b64(self.cpu(platform, data, **fields))},
            "gpu": devices if gpu else None,
            "certificate": self.tls.pem.decode("ascii"),
            **document,
            "signature": "",
        }
        text = compact({name: value for name, value in members.items() if value is not None})
        key = signer or self.tls.key
        made = key.sign(text, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg,arg-type]
        body = text[:-2] + f'{b64(made)}"}}\n'.encode("ascii")
        exchange = Exchange(
            url=f"https://{host}/.well-known/tinfoil-attestation",
            query={"nonce": self.nonce.hex()},
            body=body,
            peer_spki=self.spki if peer is None else peer,
        )
        return Shown(dialect="tinfoil", exchanges=(exchange,))

    def _document_v2(self, platform: str, cpu: Mapping[str, Any]) -> dict[str, str]:
        raw = self.cpu(platform, self.report_data("tinfoil-v2"), **cpu)
        name = {"tdx": "tdx-guest", "sev-snp": "sev-snp-guest"}[platform]
        return {
            "format": f"https://tinfoil.sh/predicate/{name}/v2",
            "body": b64(gzip.compress(raw)),
        }

    def tinfoil_v2(
        self,
        *,
        platform: str = "sev-snp",
        hpke_key: bytes | None = None,
        peer: bytes | None = None,
        cpu: Mapping[str, Any] = NONE,
    ) -> Shown:
        """A document of version 2, and the list of HPKE keys; with another key than the bound."""
        key = self.hpke_key if hpke_key is None else hpke_key
        config = b"\x00\x00\x20" + key + b"\x00\x04\x00\x01\x00\x02"
        root = "https://tiny.tinfoil.sh/.well-known"
        spki = self.spki if peer is None else peer
        document = compact(self._document_v2(platform, cpu))
        keys = len(config).to_bytes(2, "big") + config
        return Shown(
            dialect="tinfoil-v2",
            exchanges=(
                Exchange(url=f"{root}/tinfoil-attestation", body=document, peer_spki=spki),
                Exchange(url=f"{root}/hpke-keys", body=keys, peer_spki=spki),
            ),
            nonce=False,
        )

    def tinfoil_bundle(
        self,
        *,
        names: Sequence[str] | None = None,
        cpu: Mapping[str, Any] = NONE,
        **dates: Any,  # noqa: ANN401 -- the certificate's
    ) -> bytes:
        """A bundle of version 2, with the enclave's certificate; with other names than the right.

        Args:
            names: The certificate's names.
            cpu: Overrides of the report.
            **dates: The certificate's.
        """
        document = self._document_v2("sev-snp", cpu)
        digest = hashlib.sha256((document["format"] + document["body"]).encode()).hexdigest()
        own = (*self.labels("hpke", self.hpke_key), *self.labels("hatt", digest.encode()))
        certificate = Authority.root(
            "Simulated TLS",
            key=self.tls.key,
            **dates,
            extensions=[self.alternative_names(own if names is None else names)],
        )
        return compact(
            {
                "domain": "inference.tinfoil.sh",
                "enclaveAttestationReport": document,
                "digest": secrets.token_hex(32),
                "vcek": b64(self.amd.vcek),
                "enclaveCert": certificate.pem.decode("ascii"),
            }
        )

    @staticmethod
    def labels(kind: str, data: bytes) -> tuple[str, ...]:
        """Names that carry bytes in pieces, as Tinfoil's certificates do."""
        text = base64.b32encode(data).decode("ascii").rstrip("=").lower()
        pieces = [text[start : start + 45] for start in range(0, len(text), 45)]
        return tuple(f"{n:02d}{piece}.{kind}.tinfoil.sh" for n, piece in enumerate(pieces))

    @staticmethod
    def alternative_names(names: Sequence[str]) -> tuple[str, bytes, bool]:
        """The extension with a certificate's names."""
        extension = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        return ("2.5.29.17", extension.public_bytes(), False)

"""A fake machine whose evidence binds the keys of a channel, its vendors, and recordings of it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.binding import Bound, layout_of
from teeverify.simulator.amd import Amd, AmdKeys
from teeverify.simulator.authority import Authority
from teeverify.simulator.capture import Exchange, write_recording
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.intel import Intel
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.vendors import Vendors

__all__ = ["NONE", "ChannelMachine", "Shown", "b64", "compact"]

NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a provider shows.

    Attributes:
        dialect: The dialect.
        exchanges: Its answers, the report first.
        nonce: Whether the manifest names our nonce.
    """

    dialect: str
    exchanges: tuple[Exchange, ...]
    nonce: bool = True

    @property
    def body(self) -> bytes:
        """The report."""
        return self.exchanges[0].body


def b64(raw: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(raw).decode("ascii")


def compact(value: object) -> bytes:
    """JSON without white space."""
    return json.dumps(value, separators=(",", ":")).encode("utf-8")


class ChannelMachine(Vendors):
    """A machine of such a provider, with the vendors that certify it.

    Args:
        at: When everything is made.
        gpus: How many GPUs a machine has.
        amd_keys: RSA keys of the fake AMD; making them takes seconds, so tests share them.
    """

    def __init__(self, *, at: datetime, gpus: int = 2, amd_keys: AmdKeys | None = None) -> None:
        self.at = at
        self.gpu_count = gpus
        self.intel = Intel(at=at)
        self.nvidia = Nvidia()
        self._amd_keys = amd_keys
        self.nonce = secrets.token_bytes(32)
        self.tls = Authority.root("Simulated TLS", curve="p384")
        self.hpke_key = secrets.token_bytes(32)
        self.guest = Dstack()

    @cached_property
    def amd(self) -> Amd:
        """The fake AMD, of which not every provider needs one."""
        return Amd(at=self.at, product="Genoa", keys=self._amd_keys)

    def roots_pem(self) -> bytes:
        """Those of Intel and NVIDIA, and of AMD where one was asked for."""
        return super().roots_pem() + (self.amd.roots_pem() if "amd" in self.__dict__ else b"")

    @property
    def spki(self) -> bytes:
        """The TLS key, in DER."""
        return self.tls.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the TLS key."""
        return hashlib.sha256(self.spki).digest()

    def capture(
        self,
        folder: Path,
        shown: Shown,
        *,
        nras: Mapping[str, Any] | None = NONE,
        gpu_nonce: bytes | None = None,
        **manifest: Any,  # noqa: ANN401 -- members of the manifest
    ) -> Path:
        """Record what a provider shows, with the endorsements that it needs.

        Args:
            folder: Where.
            shown: What it shows.
            nras: Overrides of NRAS's answer; ``None`` records none.
            gpu_nonce: The nonce under which the GPUs were shown to NRAS; ours by default.
            **manifest: Overrides of the manifest's members.
        """
        nonce = gpu_nonce or self.nonce
        entries = self.nvidia.evidence_list(nonce, self.gpu_count)
        facts = {
            "provider": shown.dialect,
            "model": None,
            "nonce_hex": self.nonce.hex() if shown.nonce else None,
            **manifest,
        }
        return write_recording(
            folder,
            shown.exchanges,
            at=self.at,
            manifest=facts,
            tdx=self.intel.collateral(),
            snp=self._of_amd() if "amd" in self.__dict__ else None,
            nras=None if nras is None else self.nvidia.nras_answer(entries, nonce, self.at, **nras),
        )

    def _of_amd(self) -> dict[str, bytes]:
        product = str(self.amd.product)
        paths = (f"/vcek/v1/{product}/cert_chain", f"/vcek/v1/{product}/crl",
                 f"/vcek/v1/{product}/{self.amd.hwid.hex()}")  # fmt: skip
        return {path: self.amd.kds(path) or b"" for path in paths}

    # --- CPU evidence ------------------------------------------------------------------------

    def report_data(self, layout: str, **values: Any) -> bytes:  # noqa: ANN401
        """The 64 bytes of a layout over this machine's keys, but for the overrides."""
        own = {"nonce": self.nonce, "tls_spki_sha256": self.fingerprint, "hpke_key": self.hpke_key}
        return layout_of(layout).build(Bound(**{**own, **values}))

    def cpu(self, platform: str, report_data: bytes, **fields: Any) -> bytes:  # noqa: ANN401
        """A quote (``tdx``) or a report (``sev-snp``)."""
        if platform == "tdx":
            return self.intel.quote(report_data=report_data, **fields)
        return self.amd.report(report_data=report_data, **fields)

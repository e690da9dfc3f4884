"""One TD of a fake provider: a dstack guest with a signing key and a TLS key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.simulator.dstack import Dstack
from teeverify.simulator.intel import Intel
from teeverify.simulator.keys import SimulatedKey

__all__ = ["NONE", "Overrides", "SimulatedMachine"]

Overrides: TypeAlias = Mapping[str, Any]
NONE: Overrides = {}


@dataclass(kw_only=True)
class SimulatedMachine:
    """One TD: a dstack guest, its signing key, its TLS key."""

    intel: Intel
    guest: Dstack = field(default_factory=Dstack)
    key: SimulatedKey = field(default_factory=SimulatedKey)
    tls_spki: bytes = field(
        default_factory=lambda: (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
    )

    @property
    def tls_fingerprint(self) -> bytes:
        """SHA-256 of the TLS key's SubjectPublicKeyInfo."""
        return hashlib.sha256(self.tls_spki).digest()

    def report_data(self, nonce: bytes, *, tls: bool) -> bytes:
        """The 64 bytes in the layout ``near-tls`` or ``dstack-padded``."""
        identifier = self.key.key.identifier
        if tls:
            return hashlib.sha256(identifier + self.tls_fingerprint).digest() + nonce
        return identifier.ljust(32, b"\0") + nonce

    def quote(self, report_data: bytes, **overrides: Any) -> bytes:  # noqa: ANN401
        """A quote of this guest; see :meth:`Intel.quote` for the overrides."""
        return self.intel.quote(
            **{
                "report_data": report_data,
                "rtmrs": self.guest.rtmrs,
                "mr_config_id": self.guest.mr_config_id(),
                **overrides,
            }
        )

    def report(
        self,
        nonce: bytes,
        *,
        tls: bool = False,
        quote: Overrides = NONE,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """The flat report, without GPUs; an override of ``None`` leaves a member out."""
        algorithm = self.key.algorithm
        report: dict[str, Any] = {
            "signing_address": str(self.key.key),
            "signing_algo": algorithm,
            "signing_public_key": self.key.public_bytes.hex(),
            "request_nonce": nonce.hex(),
            "intel_quote": self.quote(self.report_data(nonce, tls=tls), **quote).hex(),
            "event_log": self.guest.event_log,
            "info": {
                "tcb_info": {"app_compose": self.guest.app_compose},
                "device_id": hashlib.sha256(b"simulated device").hexdigest(),
            },
            "tls_cert_fingerprint": self.tls_fingerprint.hex() if tls else None,
            **overrides,
        }
        return {name: value for name, value in report.items() if value is not None}

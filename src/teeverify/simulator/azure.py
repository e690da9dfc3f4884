"""A fake Azure TD: the paravisor's envelope, and a virtual TPM that quotes what was booted.

The quote of its CPU is a fake Intel's, so that the whole verifies under that Intel's root only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from teeverify.simulator.intel import Intel
from teeverify.simulator.tee import SimulatedQuote, SimulatedTee

__all__ = ["AzureTd", "AzureTee"]

_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
_SHA256_BANK = 0x000B
_REPORT_DATA_OFFSET = 128
_REPORT_FIELD_BYTES = 1184
_SIZES = ("version", "size", "request_type", "status")
_RUNTIME_SIZES = ("data_size", "runtime_version", "report_type", "hash_type", "claims_size")


class AzureTd:
    """An Azure TD, in software.

    Args:
        intel: Who makes its CPU.
        pcrs: What its virtual TPM has measured, from PCR 0 on.
    """

    def __init__(self, intel: Intel, *, pcrs: Sequence[bytes] | None = None) -> None:
        self.intel = intel
        self.pcrs = tuple(bytes([n]) * 32 for n in range(24)) if pcrs is None else tuple(pcrs)
        self.ak = rsa.generate_private_key(65537, 2048)

    def claims(self, **members: object) -> bytes:
        """The paravisor's claims, which name the TPM's attestation key."""
        numbers = self.ak.public_key().public_numbers()
        key = {
            "kid": "HCLAkPub",
            "kty": "RSA",
            "key_ops": ["sign"],
            "e": "AQAB",
            "n": base64.urlsafe_b64encode(numbers.n.to_bytes(256, "big")).rstrip(b"=").decode(),
        }
        return json.dumps({"keys": [key], "vm-configuration": {}, **members}).encode()

    def report_data(self, claims: bytes, hash_type: int = 1) -> bytes:
        """What the TD report binds: the claims' hash, and zeros behind it."""
        digest = hashlib.new(_HASHES.get(hash_type, "sha256"), claims).digest()
        return digest.ljust(64, b"\0")

    def hcl(
        self, claims: bytes, *, report_data: bytes | None = None, hash_type: int = 1, **fields: int
    ) -> bytes:
        """The envelope.

        Args:
            claims: The paravisor's claims.
            report_data: Of the TDREPORT in it, where that is not the claims' hash.
            hash_type: 1 SHA-256, 2 SHA-384, 3 SHA-512.
            **fields: Overrides of the header's numbers.
        """
        data = self.report_data(claims, hash_type) if report_data is None else report_data
        report = bytes(_REPORT_DATA_OFFSET) + data.ljust(64, b"\0")
        numbers = {
            "version": 1,
            "size": 32 + _REPORT_FIELD_BYTES + 20 + len(claims),
            "request_type": 2,
            "status": 0,
            "data_size": 20 + len(claims),
            "runtime_version": 1,
            "report_type": 4,
            "hash_type": hash_type,
            "claims_size": len(claims),
            **fields,
        }
        head = b"HCLA" + struct.pack("<IIII", *(numbers[name] for name in _SIZES)) + bytes(12)
        runtime = struct.pack("<IIIII", *(numbers[name] for name in _RUNTIME_SIZES))
        return head + report.ljust(_REPORT_FIELD_BYTES, b"\0") + runtime + claims + bytes(100)

    def message(self, nonce: bytes, *, bank: int = _SHA256_BANK, count: int | None = None) -> bytes:
        """What the TPM signs: the nonce, which PCRs, and the digest over them."""
        bits = (1 << (len(self.pcrs) if count is None else count)) - 1
        digest = hashlib.sha256(b"".join(self.pcrs)).digest()
        return (
            bytes.fromhex("ff5443478018")
            + struct.pack(">H4sH", 4, b"name", len(nonce))
            + nonce
            + bytes(25)
            + struct.pack(">IHB", 1, bank, 3)
            + bits.to_bytes(3, "little")
            + struct.pack(">H", len(digest))
            + digest
        )

    def sign(self, message: bytes) -> bytes:
        """The TPM's signature."""
        return self.ak.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def evidence(
        self,
        nonce: bytes,
        **overrides: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """Everything, as attestation agents send it.

        Args:
            nonce: The nonce that the TPM answers.
            **overrides: ``hcl``, ``td_quote``, ``message``, ``signature`` or ``pcrs`` instead.
        """
        claims = self.claims()
        message = overrides.get("message", self.message(nonce))
        quote = self.intel.quote(report_data=self.report_data(claims))
        return {
            "hcl_report": list(overrides.get("hcl", self.hcl(claims))),
            "td_quote": list(overrides.get("td_quote", quote)),
            "tpm_quote": {
                "message": list(message),
                "signature": list(overrides.get("signature", self.sign(message))),
                "pcrs": [list(pcr) for pcr in overrides.get("pcrs", self.pcrs)],
            },
        }


class AzureTee(SimulatedTee):
    """A whole machine as :class:`SimulatedTee`, whose CPU is that of an Azure TD.

    Args:
        gpus: How many GPUs it has.

    Attributes:
        td: Its envelope and its TPM.
        overrides: What is given instead of parts of its evidence; see :meth:`AzureTd.evidence`.
    """

    platform = "azure-tdx"

    def __init__(self, *, gpus: int = 8) -> None:
        super().__init__(gpus=gpus)
        self.td = AzureTd(self.intel)
        self.overrides: dict[str, Any] = {}

    def quote(self, report_data: bytes) -> SimulatedQuote:
        """The evidence as agents send it: the TPM answers the hash of what it is asked."""
        evidence = self.td.evidence(hashlib.sha256(report_data).digest(), **self.overrides)
        raw = json.dumps(evidence).encode("ascii")
        return SimulatedQuote(quote=raw, event_log=[], info={}, vm_config="{}")

"""Measurement reports as NVIDIA devices write them, with every field open to change."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from teeverify.simulator.authority import PrivateKey, sign_raw

__all__ = ["ABSENT", "ReportContent", "ReportForm"]

ABSENT = b"absent"  # compared by identity: an opaque item with this value is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """What a device puts into its reports.

    Attributes:
        measurements: The measured values, from index 1.
        opaque: The opaque items by type, in order.
        key: The attestation key.
    """

    measurements: Sequence[bytes]
    opaque: Mapping[int, bytes]
    key: PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportForm:
    """Every field of a report. ``None`` means: what belongs there.

    ``opaque`` holds items to change or add, by type; the value ``ABSENT`` leaves one out.
    ``signer`` signs instead of the device, ``signature`` replaces the signature.
    """

    request_version: int = 0x11
    request_code: int = 0xE0
    request_param1: int = 0x01
    request_param2: int = 0xFF
    slot_id: int = 0
    response_version: int = 0x11
    response_code: int = 0x60
    response_param1: int = 0
    response_param2: int = 0
    number_of_blocks: int | None = None
    record_length: int | None = None
    first_index: int = 1
    block_step: int = 1
    block_specification: int = 1
    block_size: int = 51
    value_type: int = 1
    value_size: int = 48
    measurements: Sequence[bytes] | None = None
    responder_nonce: bytes | None = None
    opaque: Mapping[int, bytes] = field(default_factory=dict)
    opaque_head: bytes = b""
    opaque_length: int | None = None
    fwid: bytes | None = None
    signer: PrivateKey | None = None
    signature: bytes | None = None
    trailing: bytes = b""

    def build(self, content: ReportContent, nonce: bytes) -> bytes:
        """Write the report for a nonce and sign it."""
        request = bytes(
            (self.request_version, self.request_code, self.request_param1, self.request_param2)
        )
        head = request + nonce + bytes((self.slot_id,)) + self._response(content)
        opaque = self._opaque(content)
        length = len(opaque) if self.opaque_length is None else self.opaque_length
        signed = (
            head
            + (self.responder_nonce or secrets.token_bytes(32))
            + length.to_bytes(2, "little")
            + opaque
        )
        if self.signature is not None:
            return signed + self.signature + self.trailing
        return signed + sign_raw(self.signer or content.key, signed) + self.trailing

    def _response(self, content: ReportContent) -> bytes:
        values = content.measurements if self.measurements is None else self.measurements
        record = b"".join(
            bytes((self.first_index + position * self.block_step, self.block_specification))
            + self.block_size.to_bytes(2, "little")
            + bytes((self.value_type,))
            + self.value_size.to_bytes(2, "little")
            + value
            for position, value in enumerate(values)
        )
        count = len(values) if self.number_of_blocks is None else self.number_of_blocks
        length = len(record) if self.record_length is None else self.record_length
        header = (
            self.response_version,
            self.response_code,
            self.response_param1,
            self.response_param2,
            count,
        )
        return bytes(header) + length.to_bytes(3, "little") + record

    def _opaque(self, content: ReportContent) -> bytes:
        items = dict(content.opaque)
        if self.fwid is not None:
            items[20] = self.fwid
        items |= self.opaque
        return self.opaque_head + b"".join(
            kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for kind, value in items.items()
            if value is not ABSENT
        )

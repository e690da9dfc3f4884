"""The reports that a fake Intel CPU quotes, with every field open to an override."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from teeverify.tdx.quote import BodyType, EnclaveReport, Quote, TdReport

__all__ = ["CORRUPTIBLE", "QE_SIGNER", "Corrupt", "corrupted", "enclave_report", "td_report"]

Overrides: TypeAlias = Mapping[str, Any]
Corrupt: TypeAlias = Literal[
    "body",
    "quote_signature",
    "attestation_key",
    "qe_report",
    "qe_report_signature",
    "qe_auth_data",
]
CORRUPTIBLE: Mapping[Corrupt, str] = {
    "body": "body",
    "quote_signature": "signature",
    "attestation_key": "attestation_key",
    "qe_report": "qe_report",
    "qe_report_signature": "qe_report_signature",
    "qe_auth_data": "qe_auth_data",
}
QE_SIGNER = hashlib.sha256(b"teeverify simulator quoting enclave").digest()
_SEPT_VE_DISABLE = bytes.fromhex("0000001000000000")


def td_report(kind: BodyType, fields: Overrides, *, debug: bool) -> TdReport:
    """Make a TD report.

    Args:
        kind: Which of the three bodies.
        fields: Overrides by field name of :class:`~teeverify.tdx.TdReport`.
        debug: Whether the VM runs in debug mode.
    """
    attributes = bytearray(_SEPT_VE_DISABLE)
    attributes[0] |= debug
    values: dict[str, bytes] = {
        "tee_tcb_svn": bytes([11, 1, 4, *([0] * 13)]),
        "mr_seam": hashlib.sha384(b"teeverify simulator TDX module").digest(),
        "mr_signer_seam": bytes(48),
        "seam_attributes": bytes(8),
        "td_attributes": bytes(attributes),
        "xfam": bytes.fromhex("e742060000000000"),
        "mr_td": hashlib.sha384(b"teeverify simulator mr_td").digest(),
    }
    for name in ("mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        values[name] = bytes(48)
    if kind is not BodyType.TD_1_0:
        values["tee_tcb_svn_2"] = fields.get("tee_tcb_svn", values["tee_tcb_svn"])
        values["mr_service_td"] = bytes(48)
    if kind is BodyType.TD_1_5_EX:
        values |= {
            "vm_id": bytes(1),
            "td_id": bytes(32),
            "dev_info": bytes(48),
            "init_service_td_hash": bytes(48),
            "init_service_td_attributes": bytes(8),
            "init_cpu_svn": bytes(16),
            "init_tee_tcb_svn": bytes(16),
            "init_tee_fmspc": bytes(12),
            "cur_service_td_hash": bytes(48),
            "cur_service_td_attributes": bytes(8),
        }
    return TdReport(**{**values, **fields})


def enclave_report(fields: Overrides, *, debug: bool = False) -> EnclaveReport:
    """Make an enclave report, which by default is the quoting enclave's.

    Args:
        fields: Overrides by field name of :class:`~teeverify.tdx.EnclaveReport`.
        debug: Whether the enclave runs in debug mode.
    """
    values: dict[str, Any] = {
        "cpu_svn": bytes(16),
        "misc_select": bytes(4),
        "reserved1": bytes(28),
        "attributes": bytes([0x11 | (0x02 if debug else 0), *([0] * 15)]),
        "mr_enclave": hashlib.sha256(b"teeverify simulator enclave").digest(),
        "reserved2": bytes(32),
        "mr_signer": QE_SIGNER,
        "reserved3": bytes(96),
        "isv_prod_id": 2,
        "isv_svn": 4,
        "reserved4": bytes(60),
        "report_data": bytes(64),
    }
    return EnclaveReport(**{**values, **fields})


def corrupted(quote: Quote, part: Corrupt | None) -> Quote:
    """Flip the last bit of a part of a quote; of a report's report data, where it is a report.

    Args:
        quote: The quote, signed.
        part: Which part, or ``None`` for none.
    """
    if part is None:
        return quote
    value: Any = getattr(quote, CORRUPTIBLE[part])
    if isinstance(value, bytes):
        value = _flipped(value)
    else:
        value = value._replace(report_data=_flipped(value.report_data))
    return quote._replace(**{CORRUPTIBLE[part]: value})


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])

"""What the certificate of an attestation key says of its device and its firmware."""

from __future__ import annotations

import hmac
import re

from teeverify.crypto.certificates import Certificate
from teeverify.crypto.der import CONTEXT_0, OCTET_STRING, OID, SEQUENCE, DerReader
from teeverify.errors import BindingMismatch, ChainInvalid
from teeverify.nvidia.certificates import DeviceChain
from teeverify.nvidia.chips import DICE_TCB_INFO
from teeverify.nvidia.spdm import FWID_BYTES

__all__ = ["signed_product", "stated_fwid"]

DEVICE_TYPE = "gpu.device-type"
FWID = "gpu.fwid"
_SAN = "2.5.29.17"
_UTF8_STRING = 0x0C
_FWIDS = 0xA6
_DEVICE_INFO_OID = bytes.fromhex("2b06010401831c821201")
_SHA384_OID = bytes.fromhex("608648016503040202")
_DEVICE_INFO = re.compile(r"NVIDIA:([A-Z0-9_]{1,16}):[0-9A-F]{16}")


def signed_product(leaf: Certificate, *, name: str) -> str:
    """The chip that the leaf's subject alternative name states (DSP0274 1.1 section 10.6.1).

    Raises:
        MalformedEvidence: The extension cannot be read.
        ChainInvalid: There is not exactly one such name, or it is no NVIDIA device.
    """
    raw = leaf.extension(_SAN)
    if raw is None:
        raise ChainInvalid(f"{name}: the attestation key names no device", id=DEVICE_TYPE)
    outer = DerReader(raw, name=f"{name}.san", id=DEVICE_TYPE)
    names = outer.nested(SEQUENCE, "names")
    outer.finish()
    other = names.nested(CONTEXT_0, "other_name")
    names.finish()
    kind = other.value(OID, "type")
    value = other.nested(CONTEXT_0, "value")
    other.finish()
    text = value.value(_UTF8_STRING, "text").decode("utf-8", "replace")
    value.finish()
    found = _DEVICE_INFO.fullmatch(text)
    if kind != _DEVICE_INFO_OID or found is None:
        raise ChainInvalid(
            f"{name}: the attestation key names something that is no NVIDIA device",
            id=DEVICE_TYPE,
            got=ascii(text[:80]),
            want="NVIDIA:<chip>:<16 hex digits>",
        )
    return found[1]


def stated_fwid(chain: DeviceChain, *, name: str) -> bytes:
    """The identity of the firmware that made the attestation key, from the leaf.

    Hopper and LS10 state it as a TCG composite device id, Blackwell as DICE TCB info (TCG DICE
    Attestation Architecture 1.1 section 6.1), of which the first entry is the firmware's.

    Raises:
        ChainInvalid: The extension is missing.
        MalformedEvidence: It cannot be read.
        BindingMismatch: It belongs to another device CA.
    """
    raw = chain.leaf.extension(chain.chip.fwid_extension)
    if raw is None:
        raise ChainInvalid(
            f"{name}: the attestation key states no firmware identity",
            id=FWID,
            want=f"extension {chain.chip.fwid_extension}",
        )
    outer = DerReader(raw, name=f"{name}.fwid", id=FWID)
    body = outer.nested(SEQUENCE, "extension")
    outer.finish()
    if chain.chip.fwid_extension == DICE_TCB_INFO:
        return _tcb_info(body)
    if body.integer("version") != 1:
        raise body.error("version is not known", "version")
    if not hmac.compare_digest(body.encoded(SEQUENCE, "device_id"), chain.device_ca.spki):
        raise BindingMismatch(
            f"{name}: the firmware identity belongs to another device CA", id=FWID
        )
    fwid = _digest(body)
    body.finish()
    return fwid


def _tcb_info(body: DerReader) -> bytes:
    """The first FWID of a DiceTcbInfo; its members come in ascending order of their tags."""
    last, found = 0, None
    while (tag := body.next_tag()) is not None:
        # Bit 6 says only that a member is constructed (X.690 section 8.1.2.5).
        number = tag & ~0x20
        if number <= last:
            raise body.error("members out of order", "member")
        last = number
        if tag != _FWIDS:
            body.any("member")
            continue
        fwids = body.nested(_FWIDS, "fwids")
        found = _digest(fwids)
        while fwids.remaining:
            _digest(fwids)
    if found is None:
        raise body.error("no firmware identity", "fwids")
    return found


def _digest(reader: DerReader) -> bytes:
    """Take one FWID: an algorithm, which is SHA-384, and the digest."""
    entry = reader.nested(SEQUENCE, "fwid")
    algorithm = entry.value(OID, "algorithm")
    digest = entry.value(OCTET_STRING, "digest")
    entry.finish()
    if algorithm != _SHA384_OID or len(digest) != FWID_BYTES:
        raise reader.error("not a SHA-384 digest", "fwid", got=algorithm.hex())
    return digest

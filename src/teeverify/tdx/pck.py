"""The Intel SGX extension of a PCK certificate: which platform this is, and at which SVNs.

Format: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section
1.3.5. The extension is ``1.2.840.113741.1.13.1``, a sequence of (object identifier, value).
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from teeverify.crypto.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    DerReader,
)
from teeverify.errors import MalformedEvidence

__all__ = ["SGX_EXTENSION", "PckExtension", "PckTcb", "parse_pck_extension"]

SGX_EXTENSION = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1, as DER writes it
CHECK = "tdx.pck-chain"
_PATH = "pck.sgx_extension"
_ARC = SGX_EXTENSION
_PCE_SVN = 17
_CPU_SVN = 18
_COMPONENTS = 16


def _usual_svn(number: int) -> bytes:
    """The pattern of one SVN below 256: DER writes it in one byte, or in two where it is large."""
    name = re.escape(b"\x06\x0b" + _ARC + bytes([2, number]))
    small = rb"0\x10" + name + rb"\x02\x01(?=[\x00-\x7f])"
    large = rb"0\x11" + name + rb"\x02\x02\x00(?=[\x80-\xff])"
    return b"(?:" + small + b"|" + large + b")(.)"


# The form in which Intel writes the SVNs; any other is read element by element.
_USUAL_TCB = re.compile(
    b"".join(_usual_svn(number) for number in range(1, _PCE_SVN + 1))
    + re.escape(b"0\x1f\x06\x0b" + _ARC + bytes([2, _CPU_SVN, OCTET_STRING, 16]))
    + b"(.{16})",
    re.DOTALL,
)


class PckTcb(NamedTuple):
    """The SVNs that a PCK certificate vouches for.

    Attributes:
        components: The 16 component SVNs, one byte each.
        pce_svn: SVN of the provisioning certification enclave.
        cpu_svn: The same as ``components``, in the CPU's own encoding.
    """

    components: bytes
    pce_svn: int
    cpu_svn: bytes


class PckExtension(NamedTuple):
    """What Intel says of a platform in its PCK certificate.

    Attributes:
        ppid: Platform provisioning id: names this one machine.
        tcb: Its SVNs.
        pce_id: Which provisioning certification enclave.
        fmspc: Family, model, stepping, platform type and custom SKU.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: Names this registration of a multi-package platform.
        dynamic_platform: Whether packages can be added later; ``None`` where not stated.
        cached_keys: Whether Intel keeps the platform's root keys; ``None`` where not stated.
        smt_enabled: Whether hyper-threading is on; ``None`` where not stated.
    """

    ppid: bytes
    tcb: PckTcb
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_pck_extension(value: bytes, *, platform: bool) -> PckExtension:
    """Read the extension's DER value.

    Args:
        value: The value of extension ``1.2.840.113741.1.13.1``.
        platform: Whether the certificate was issued by the Platform CA, whose certificates must
            also have a platform instance id and a configuration.

    Raises:
        MalformedEvidence: Not DER, a field missing, twice, or of another form.
    """
    outer = DerReader(value, name="pck", id=CHECK)
    fields = _pairs(outer.nested(SEQUENCE, "sgx_extension"), _ARC, _PATH)
    outer.finish()
    instance = fields.get(6)
    configuration = fields.get(7)
    if platform and (instance is None or configuration is None):
        _wrong("platform_instance_id and configuration", "missing in a Platform CA's certificate")
    flags = _configuration(configuration) if configuration is not None else (None, None, None)
    return PckExtension(
        ppid=_octets(fields, 1, 16, "ppid"),
        tcb=_tcb(fields),
        pce_id=_octets(fields, 3, 2, "pce_id"),
        fmspc=_octets(fields, 4, 6, "fmspc"),
        sgx_type=_integer(_field(fields, 5, "sgx_type"), ENUMERATED, 2, "sgx_type"),
        platform_instance_id=None
        if instance is None
        else _octets(fields, 6, 16, "platform_instance_id"),
        dynamic_platform=flags[0],
        cached_keys=flags[1],
        smt_enabled=flags[2],
    )


def _wrong(field: str, problem: str) -> NoReturn:
    path = f"{_PATH}.{field}"
    raise MalformedEvidence(f"{path}: {problem}", id=CHECK, field=path)


def _pairs(sequence: DerReader, arc: bytes, path: str) -> dict[int, tuple[int, bytes]]:
    """Read (identifier, value) pairs: the identifier's last number, and tag and content."""
    found: dict[int, tuple[int, bytes]] = {}
    while sequence.remaining:
        identifier, tag, content = sequence.pair("item")
        if identifier[:-1] != arc:
            _wrong("item", f"identifier {identifier.hex()} is not one of {path}")
        if identifier[-1] in found:
            _wrong("item", f"number {identifier[-1]} of {path} twice")
        found[identifier[-1]] = tag, content
    return found


def _field(fields: dict[int, tuple[int, bytes]], number: int, name: str) -> tuple[int, bytes]:
    element = fields.get(number)
    if element is None:
        _wrong(name, "missing")
    return element


def _octets(fields: dict[int, tuple[int, bytes]], number: int, size: int, name: str) -> bytes:
    tag, content = _field(fields, number, name)
    if tag != OCTET_STRING or len(content) != size:
        _wrong(name, f"not {size} octets")
    return content


def _integer(element: tuple[int, bytes], tag: int, most: int, name: str) -> int:
    """A non-negative DER integer of the shortest form."""
    found, content = element
    if found == tag and len(content) == 1 and content[0] <= min(most, 0x7F):
        return content[0]
    value = int.from_bytes(content, "big", signed=True) if content else -1
    shortest = len(content) == value.bit_length() // 8 + 1
    if found != tag or not shortest or not 0 <= value <= most:
        _wrong(name, f"not an integer between 0 and {most}")
    return value


def _nested(element: tuple[int, bytes], arc: bytes, name: str) -> dict[int, tuple[int, bytes]]:
    tag, content = element
    if tag != SEQUENCE:
        _wrong(name, "not a sequence")
    return _pairs(DerReader(content, name=f"{_PATH}.{name}", id=CHECK), arc, f"{_PATH}.{name}")


def _tcb(fields: dict[int, tuple[int, bytes]]) -> PckTcb:
    element = _field(fields, 2, "tcb")
    usual = _USUAL_TCB.fullmatch(element[1]) if element[0] == SEQUENCE else None
    if usual is not None:
        *svns, pce_svn, cpu_svn = usual.groups()
        return PckTcb(components=b"".join(svns), pce_svn=pce_svn[0], cpu_svn=cpu_svn)
    tcb = _nested(element, _ARC + b"\x02", "tcb")
    if len(tcb) != _CPU_SVN:
        _wrong("tcb", f"{len(tcb)} fields, not {_CPU_SVN}")
    for number in range(1, _CPU_SVN + 1):
        if number not in tcb:
            _wrong(f"tcb.{number}", "missing")
    components = bytes(
        _integer(tcb[number], INTEGER, 0xFF, "tcb") for number in range(1, _COMPONENTS + 1)
    )
    return PckTcb(
        components=components,
        pce_svn=_integer(tcb[_PCE_SVN], INTEGER, 0xFFFF, "tcb.pce_svn"),
        cpu_svn=_octets(tcb, _CPU_SVN, 16, "tcb.cpu_svn"),
    )


def _configuration(element: tuple[int, bytes]) -> tuple[bool, bool, bool]:
    flags = _nested(element, _ARC + b"\x07", "configuration")
    return (
        _boolean(flags, 1, "dynamic_platform"),
        _boolean(flags, 2, "cached_keys"),
        _boolean(flags, 3, "smt_enabled"),
    )


def _boolean(flags: dict[int, tuple[int, bytes]], number: int, name: str) -> bool:
    element = _field(flags, number, f"configuration.{name}")
    if element not in {(BOOLEAN, b"\x00"), (BOOLEAN, b"\xff")}:
        _wrong(f"configuration.{name}", "not a boolean")
    return element == (BOOLEAN, b"\xff")

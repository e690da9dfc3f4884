"""The bytes of a fake AMD report: fields by name, each at its place."""

from __future__ import annotations

from collections.abc import Mapping

from teeverify.errors import ConfigurationError

__all__ = ["FIELDS", "pack_report"]

_SIGNED_BYTES = 0x2A0
FIELDS: Mapping[str, tuple[int, int]] = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "vmpl": (0x030, 4),
    "signature_algo": (0x034, 4),
    "current_tcb": (0x038, 8),
    "platform_info": (0x040, 8),
    "key_info": (0x048, 4),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "reported_tcb": (0x180, 8),
    "cpuid": (0x188, 3),
    "chip_id": (0x1A0, 64),
    "committed_tcb": (0x1E0, 8),
    "current_version": (0x1E8, 3),
    "committed_version": (0x1EC, 3),
    "launch_tcb": (0x1F0, 8),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
"""Offset and size of each field."""


def pack_report(values: Mapping[str, int | bytes], patches: Mapping[int, bytes]) -> bytes:
    """The 672 signed bytes of a report.

    Args:
        values: Fields by name; shorter bytes are padded with zeros behind.
        patches: Bytes by offset, put in at last.

    Raises:
        ConfigurationError: No such field, or a value that is too long for it.
    """
    body = bytearray(_SIGNED_BYTES)
    for name, value in values.items():
        if name not in FIELDS:
            raise ConfigurationError("no such field of a report", id="usage.simulator", got=name)
        offset, size = FIELDS[name]
        data = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        if len(data) > size:
            raise ConfigurationError("too long for its field", id="usage.simulator", got=name)
        body[offset : offset + size] = data.ljust(size, b"\0")
    for offset, data in patches.items():
        body[offset : offset + len(data)] = data
    return bytes(body)

"""What the fake NVIDIA's chips are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["MODELS", "Chip", "Model"]

Chip: TypeAlias = Literal["GH100", "GB100", "GB20X", "LS_10"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What differs from chip to chip."""

    arch: str
    engine: str
    provisioner: str
    identity: str
    blocks: int
    opaque: Mapping[int, bytes]


def _gpu_opaque(project: bytes, sku: bytes, chip_sku: bytes, vbios: str) -> dict[int, bytes]:
    """The opaque items that a GPU's report carries, in the order of the real ones."""
    return {
        6: bytes.fromhex(vbios) + bytes(3),
        14: bytes.fromhex("74298001"),
        15: chip_sku.ljust(4, b"\0"),
        16: b"0\0",
        17: project + b"\0",
        18: sku + b"\0",
        19: b"0\0",
        3: b"570.172.08\0",
        4: bytes.fromhex("8001000002000000"),
        12: bytes(256),
        13: bytes(4),
        11: b"\x55",
        21: b"\x55",
        34: b"\x01\x00",
        36: b"\x00\x00",
    }


MODELS: Mapping[str, Model] = {
    "GH100": Model(
        arch="HOPPER",
        engine="GSP",
        provisioner="NVIDIA GH100 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G520", b"0280", b"895", "00cf009602"),
    ),
    "GB100": Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB100 Provisioner ICA 00000",
        identity="NVIDIA GB100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G525", b"0220", b"886", "008800970f"),
    ),
    "GB20X": Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB202 Provisioner ICA 00000",
        identity="NVIDIA GB20X Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G153", b"0210", b"895", "0081029801") | {35: b"GB202\0"},
    ),
    "LS_10": Model(
        arch="LS10",
        engine="FSP",
        provisioner="NVIDIA LS_10 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=31,
        opaque={6: b"96.10.55.00.01", 12: bytes(104), 22: bytes(8), 25: b"\x01\x00"},
    ),
}

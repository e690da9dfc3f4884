"""The first state of a virtual CPU, which the launch digest covers.

AMD64 Architecture Programmer's Manual, volume 2, table B-4 (VMSA layout) and section 14.1 (state
after reset), with what each hypervisor sets differently.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["BSP_EIP", "CPU_TYPES", "Vmm", "cpu_signature", "vmsa_page"]

BSP_EIP = 0xFFFFFFF0
_PAGE = 4096
_PAT = 0x0007040600070406


class Vmm(str, Enum):
    """Whose hypervisor launches the guest."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"

    def __str__(self) -> str:
        """The name."""
        return self.value


def cpu_signature(family: int, model: int, stepping: int) -> int:
    """CPUID Fn0000_0001_EAX of a CPU (AMD document 25481)."""
    low = min(family, 0xF)
    return (
        (family - low) << 20 | (model >> 4) << 16 | low << 8 | (model & 0xF) << 4 | (stepping & 0xF)
    )


_NAPLES = cpu_signature(23, 1, 2)
_ROME = cpu_signature(23, 49, 0)
_MILAN = cpu_signature(25, 1, 1)
_GENOA = cpu_signature(25, 17, 0)
_TURIN = cpu_signature(26, 0, 0)
# QEMU's models (target/i386/cpu.c), with the versions that have the same signature.
CPU_TYPES: Mapping[str, int] = {
    **dict.fromkeys(("EPYC", "EPYC-IBPB", *(f"EPYC-v{n}" for n in range(1, 6))), _NAPLES),
    **dict.fromkeys(("EPYC-Rome", *(f"EPYC-Rome-v{n}" for n in range(1, 6))), _ROME),
    **dict.fromkeys(("EPYC-Milan", *(f"EPYC-Milan-v{n}" for n in range(1, 4))), _MILAN),
    **dict.fromkeys(("EPYC-Genoa", "EPYC-Genoa-v1", "EPYC-Genoa-v2"), _GENOA),
    **dict.fromkeys(("EPYC-Turin", "EPYC-Turin-v1"), _TURIN),
}
"""Signatures of the guest CPUs that QEMU offers, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hypervisor:
    """What one hypervisor sets differently."""

    cs: int
    cs_bsp: int
    ss: int
    tr: int
    rdx: int | None
    pat: int
    mxcsr: int
    fcw: int


_HYPERVISORS: Mapping[Vmm, _Hypervisor] = {
    Vmm.QEMU: _Hypervisor(
        cs=0x9B, cs_bsp=0x9B, ss=0x93, tr=0x8B, rdx=None, pat=_PAT, mxcsr=0x1F80, fcw=0x37F
    ),
    Vmm.EC2: _Hypervisor(
        cs=0x9B, cs_bsp=0x9A, ss=0x92, tr=0x83, rdx=0x600, pat=_PAT, mxcsr=0, fcw=0
    ),
    Vmm.GCE: _Hypervisor(
        cs=0x9B, cs_bsp=0x9B, ss=0x93, tr=0x8B, rdx=0x600, pat=0x70106, mxcsr=0, fcw=0
    ),
}


def vmsa_page(*, vmm: Vmm, eip: int, signature: int, features: int) -> bytes:
    """The page of one virtual CPU.

    Args:
        vmm: The hypervisor.
        eip: Where the CPU begins.
        signature: CPUID signature of the guest's CPU; only QEMU puts it in.
        features: SEV_FEATURES.
    """
    own = _HYPERVISORS[vmm]
    code = own.cs_bsp if eip == BSP_EIP else own.cs
    page = bytearray(_PAGE)
    segments = {  # offset: selector, attributes, base; the limit is 0xFFFF in all
        0x000: (0, 0x93, 0),
        0x010: (0xF000, code, eip & 0xFFFF0000),
        0x020: (0, own.ss, 0),
        0x030: (0, 0x93, 0),
        0x040: (0, 0x93, 0),
        0x050: (0, 0x93, 0),
        0x060: (0, 0, 0),
        0x070: (0, 0x82, 0),
        0x080: (0, 0, 0),
        0x090: (0, own.tr, 0),
    }
    for offset, (selector, attributes, base) in segments.items():
        struct.pack_into("<HHIQ", page, offset, selector, attributes, 0xFFFF, base)
    registers = {
        0x0D0: 0x1000,  # EFER.SVME, which KVM sets
        0x148: 0x40,  # CR4.MCE, which KVM sets
        0x158: 0x10,  # CR0.ET
        0x160: 0x400,  # DR7
        0x168: 0xFFFF0FF0,  # DR6
        0x170: 0x2,  # RFLAGS
        0x178: eip & 0xFFFF,  # RIP
        0x268: own.pat,
        0x310: signature if own.rdx is None else own.rdx,  # RDX
        0x3B0: features,
        0x3E8: 0x1,  # XCR0
    }
    for offset, value in registers.items():
        struct.pack_into("<Q", page, offset, value)
    struct.pack_into("<I", page, 0x408, own.mxcsr)
    struct.pack_into("<H", page, 0x410, own.fcw)
    return bytes(page)

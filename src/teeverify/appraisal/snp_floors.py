"""The lowest AMD firmware that is accepted, by product, with the bulletin that says why.

AMD has no service that tells whether firmware is up to date: its bulletins do. Looked up on
2026-11-23 in what others quote of them (docs/adr/0013 says which number has how many sources). AMD
counts microcode by stepping: its numbers are here by CPUID, which reports before version 3 do not
have. A user who knows the machine raises all of this with ``snp.min_tcb``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from teeverify.snp import Product

__all__ = ["FLOORS", "NEWEST", "Cpu", "Floor"]

_BULLETINS = "https://www.amd.com/en/resources/product-security/bulletin/"
Cpu: TypeAlias = "tuple[int, int, int]"
"""Family, model and stepping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The lowest versions that have the fixes of one bulletin.

    Attributes:
        components: Lowest version by component.
        bulletin: AMD's bulletin.
        about: What its fixes are for, in a few words.
        cpu: The one CPU that it is for; ``None`` for all of the product.
    """

    components: Mapping[str, int]
    bulletin: str
    about: str
    cpu: Cpu | None = None

    @property
    def url(self) -> str:
        """Where AMD publishes the bulletin."""
        return f"{_BULLETINS}{self.bulletin.lower()}.html"


_MICROCODE = "forged microcode (CVE-2024-56161)"
_RMP = "a race while the RMP is initialised (CVE-2025-0033)"
_MMIO = "routing of MMIO by the host (CVE-2025-61971)"
_STACK = "the stack engine, shared by sibling threads (CVE-2025-29943)"


def _snp(version: int, bulletin: str, about: str) -> Floor:
    return Floor(components={"snp": version}, bulletin=bulletin, about=about)


def _patch(cpu: Cpu, version: int, bulletin: str, about: str) -> Floor:
    """A microcode's patch level: TCB_VERSION has the low byte of the revision."""
    return Floor(components={"microcode": version}, bulletin=bulletin, about=about, cpu=cpu)


FLOORS: Mapping[Product, Floor] = {
    Product.MILAN: _snp(0x18, "AMD-SB-3019", _MICROCODE),
    Product.GENOA: _snp(0x17, "AMD-SB-3019", _MICROCODE),
    Product.TURIN: _snp(0x04, "AMD-SB-3020", _RMP),
}
"""Below these no preset accepts: whoever runs the machine can forge what it reports."""

NEWEST: Mapping[Product, tuple[Floor, ...]] = {
    Product.MILAN: (
        _snp(0x1D, "AMD-SB-3030", _MMIO),
        _patch((0x19, 0x01, 1), 0xDB, "AMD-SB-3019", _MICROCODE),  # 0x0A0011DB
        _patch((0x19, 0x01, 2), 0x44, "AMD-SB-3019", _MICROCODE),  # 0x0A001244
    ),
    Product.GENOA: (
        _snp(0x1B, "AMD-SB-3020", _RMP),
        _patch((0x19, 0x11, 1), 0x56, "AMD-SB-3027", _STACK),  # 0x0A101156
        _patch((0x19, 0x11, 2), 0x51, "AMD-SB-3027", _STACK),  # 0x0A101251
        _patch((0x19, 0xA0, 2), 0x19, "AMD-SB-3019", _MICROCODE),  # 0x0AA00219
    ),
    Product.TURIN: (
        _snp(0x04, "AMD-SB-3020", _RMP),
        _patch((0x1A, 0x02, 1), 0x51, "AMD-SB-3027", _STACK),
    ),
}
"""The newest fixes with a number that was known when this version was made, weightiest first."""

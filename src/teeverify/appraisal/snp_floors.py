"""The lowest AMD firmware that is accepted, by product, with the bulletin that says why.

AMD has no service that tells whether firmware is up to date: its bulletins do. Looked up on
2026-11-22. Only the version of the SEV-SNP firmware is a floor here, because AMD counts microcode
by stepping, so that one number for a product would be wrong for some of its chips; a user who
knows the machine raises it with ``snp.min_tcb``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teeverify.snp import Product

__all__ = ["FLOORS", "NEWEST", "Floor"]

_BULLETINS = "https://www.amd.com/en/resources/product-security/bulletin/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The lowest versions that have the fixes of one bulletin.

    Attributes:
        components: Lowest version by component.
        bulletin: AMD's bulletin.
        about: What its fixes are for, in a few words.
    """

    components: Mapping[str, int]
    bulletin: str
    about: str

    @property
    def url(self) -> str:
        """Where AMD publishes the bulletin."""
        return f"{_BULLETINS}{self.bulletin.lower()}.html"


_SB_3019 = "AMD-SB-3019"
_SB_3020 = "AMD-SB-3020"
_MICROCODE = "forged microcode (CVE-2024-56161)"
_RMP = "a race while the RMP is initialised (CVE-2025-0033)"

FLOORS: Mapping[Product, Floor] = {
    Product.MILAN: Floor(components={"snp": 0x18}, bulletin=_SB_3019, about=_MICROCODE),
    Product.GENOA: Floor(components={"snp": 0x17}, bulletin=_SB_3019, about=_MICROCODE),
    Product.TURIN: Floor(components={"snp": 0x04}, bulletin=_SB_3020, about=_RMP),
}
"""Below these no preset accepts: whoever runs the machine can forge what it reports."""

NEWEST: Mapping[Product, Floor] = {
    Product.MILAN: Floor(
        components={"snp": 0x1D},
        bulletin="AMD-SB-3030",
        about="routing of MMIO by the host (CVE-2025-61971)",
    ),
    Product.GENOA: Floor(components={"snp": 0x1B}, bulletin=_SB_3020, about=_RMP),
    Product.TURIN: Floor(components={"snp": 0x04}, bulletin=_SB_3020, about=_RMP),
}
"""The newest fixes with a number that was known when this version was made."""

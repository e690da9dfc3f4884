"""AMD's products, and how each encodes the versions of its TCB.

AMD SEV-SNP Firmware ABI (document 56860), section 2.2 (TCB_VERSION) and the CPUID fields of
ATTESTATION_REPORT; certificate names of document 57230.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from teeverify.errors import MalformedEvidence

__all__ = ["Product", "TcbVersion", "name_of_cpu", "product_of_cpu"]

TCB_BYTES = 8


class Product(str, Enum):
    """A line of processors under one root key, named as AMD's key service names it."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"

    def __str__(self) -> str:
        """The name."""
        return self.value

    @property
    def chip_id_bytes(self) -> int:
        """How many bytes of CHIP_ID name the chip; the rest is zero."""
        return 8 if self is Product.TURIN else 64


# (family, first model, last model): the ranges that AMD gives to one product. Bergamo and Siena
# (0xA0 to 0xAF) are certified under Genoa's keys.
_CPUS: Mapping[tuple[int, int, int], Product] = {
    (0x19, 0x00, 0x0F): Product.MILAN,
    (0x19, 0x10, 0x1F): Product.GENOA,
    (0x19, 0xA0, 0xAF): Product.GENOA,
    (0x1A, 0x00, 0x1F): Product.TURIN,
}
_VENICE = ((0x50, 0x57), (0x90, 0x9F), (0xA0, 0xAF), (0xC0, 0xC7))
_VENICE_FAMILY = 0x1A
# Byte by byte from the lowest address; an empty name is reserved and must be zero.
_CLASSIC = ("bootloader", "tee", "", "", "", "", "snp", "microcode")
_LAYOUTS: Mapping[Product, tuple[str, ...]] = {
    Product.MILAN: _CLASSIC,
    Product.GENOA: _CLASSIC,
    Product.TURIN: ("fmc", "bootloader", "tee", "snp", "", "", "", "microcode"),
}
# Which bytes of it are reserved: from, and up to.
_RESERVED: Mapping[Product, tuple[int, int]] = {
    Product.MILAN: (2, 6),
    Product.GENOA: (2, 6),
    Product.TURIN: (4, 7),
}


def product_of_cpu(family: int, model: int) -> Product | None:
    """The product of a CPU; ``None`` where it is none that is known here.

    Args:
        family: Family, with the extended family added.
        model: Model, with the extended model combined.
    """
    for (known, first, last), product in _CPUS.items():
        if family == known and first <= model <= last:
            return product
    return None


def name_of_cpu(family: int, model: int) -> str:
    """What to call a CPU that is no known product, for messages."""
    numbers = f"CPUID family {family:#04x}, model {model:#04x}"
    if family == _VENICE_FAMILY and any(first <= model <= last for first, last in _VENICE):
        return f"Venice ({numbers})"
    return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbVersion:
    """Security versions of a platform's firmware, by component; never one number.

    Attributes:
        product: Whose layout it is: versions of two products are not comparable.
        fmc: First mutable code; ``None`` where the product has none.
        bootloader: The secure processor's bootloader.
        tee: The secure processor's operating system.
        snp: The SEV-SNP firmware.
        microcode: The lowest microcode patch level of all cores.
    """

    product: Product
    fmc: int | None = None
    bootloader: int
    tee: int
    snp: int
    microcode: int

    @classmethod
    def read(cls, raw: bytes, product: Product, *, id: str, field: str) -> TcbVersion:
        """Read the eight bytes of a TCB_VERSION.

        Raises:
            MalformedEvidence: A byte that the product reserves is not zero.
        """
        values = dict(zip(_LAYOUTS[product], raw, strict=True))
        values.pop("", None)
        start, end = _RESERVED[product]
        if any(raw[start:end]):
            raise MalformedEvidence(
                f"{field}: reserved bytes are not zero in the layout of {product}",
                id=id,
                field=field,
                got=raw.hex(),
            )
        return cls(product=product, **values)

    @classmethod
    def names(cls, product: Product) -> tuple[str, ...]:
        """The components that a product has, in the order of its layout."""
        return tuple(name for name in _LAYOUTS[product] if name)

    @property
    def components(self) -> Mapping[str, int]:
        """The components that the product has, by name."""
        return {name: getattr(self, name) for name in self.names(self.product)}

    def below(self, floor: Mapping[str, int]) -> tuple[str, ...]:
        """The components that are lower than a floor says.

        A component that the floor names and the product does not have is lower than any.
        """
        own = self.components
        return tuple(name for name, least in floor.items() if own.get(name, -1) < least)

    def to_bytes(self) -> bytes:
        """The eight bytes in the product's layout."""
        return bytes(getattr(self, name) if name else 0 for name in _LAYOUTS[self.product])

    def __str__(self) -> str:
        """The components in short."""
        return " ".join(f"{name}={value}" for name, value in self.components.items())

"""The bit fields of a report by name (AMD document 56860, GUEST_POLICY and PLATFORM_INFO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GuestPolicy", "PlatformInfo"]

# Two polarities: some bits permit the host something, the others forbid it something.
_PERMISSIONS: Mapping[str, int] = {"smt": 16, "migrate_ma": 18, "debug": 19, "cxl": 21}
_RESTRICTIONS: Mapping[str, int] = {
    "single_socket": 20,
    "mem_aes_256_xts": 22,
    "rapl_disabled": 23,
    "ciphertext_hiding": 24,
    "page_swap_disabled": 25,
}
_PLATFORM: Mapping[str, int] = {
    "smt": 0,
    "tsme": 1,
    "ecc": 2,
    "rapl_disabled": 3,
    "ciphertext_hiding": 4,
    "alias_check_complete": 5,
    "tio": 7,
}


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """What the guest's owner lets the host do.

    Attributes:
        value: The 64 bits.
    """

    value: int

    @property
    def abi_major(self) -> int:
        """The lowest major version of the firmware's ABI."""
        return self.value >> 8 & 0xFF

    @property
    def abi_minor(self) -> int:
        """The lowest minor version of the firmware's ABI."""
        return self.value & 0xFF

    @property
    def permits(self) -> frozenset[str]:
        """What the host may do: ``smt``, ``migrate_ma``, ``debug``, ``cxl``."""
        return _names(self.value, _PERMISSIONS)

    @property
    def requires(self) -> frozenset[str]:
        """What the host must do, such as ``single_socket`` or ``ciphertext_hiding``."""
        return _names(self.value, _RESTRICTIONS)

    @property
    def debug(self) -> bool:
        """The host may read and change the guest's memory."""
        return "debug" in self.permits


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """How the host is configured. Bits that are not known here mean nothing bad by themselves.

    Attributes:
        value: The 64 bits.
    """

    value: int

    @property
    def names(self) -> frozenset[str]:
        """What is on, such as ``smt``, ``ecc`` or ``alias_check_complete``."""
        return _names(self.value, _PLATFORM)

    @property
    def unknown_bits(self) -> tuple[int, ...]:
        """The numbers of set bits that have no name here; Turin sets bit 6."""
        known = set(_PLATFORM.values())
        return tuple(n for n in range(64) if self.value >> n & 1 and n not in known)


def _names(value: int, bits: Mapping[str, int]) -> frozenset[str]:
    return frozenset(name for name, number in bits.items() if value >> number & 1)

"""What gathers evidence: one interface for real machines and for the simulated one.

A dialect asks for the parts, in the order that its binding needs, and writes them down in its own
form. A collector knows nothing of keys, nonces of clients or dialects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["CpuEvidence", "DeviceEvidence", "Tee"]


class CpuEvidence(Protocol):
    """A quote, and what belongs to it."""

    @property
    def quote(self) -> bytes:
        """The quote, as the hardware gave it."""

    @property
    def event_log(self) -> Sequence[Mapping[str, object]]:
        """The events that were measured into its registers."""

    @property
    def info(self) -> Mapping[str, object]:
        """What the guest agent says of the VM and its configuration."""

    @property
    def vm_config(self) -> str:
        """How the VM was launched, as JSON text."""


class DeviceEvidence(Protocol):
    """The report of one GPU or switch."""

    @property
    def kind(self) -> int:
        """1 for a GPU, 2 for a switch (protocol.md)."""

    @property
    def arch(self) -> str:
        """``HOPPER``, ``BLACKWELL``..."""

    @property
    def certificate(self) -> str:
        """The device's certificate chain, base64 of PEM, leaf first."""

    @property
    def evidence(self) -> str:
        """SPDM request and response, base64."""


class Tee(Protocol):
    """A confidential machine. Its methods take their time; one thread calls them.

    Whatever is missing, switched off or broken raises
    :class:`~teeverify.errors.EndpointUnavailable`: never a part of the evidence as the whole.
    """

    @property
    def platform(self) -> str:
        """``tdx`` or ``sev-snp``."""

    def devices(self, nonce: bytes) -> Sequence[DeviceEvidence]:
        """Ask every GPU and switch for a report over 32 bytes, in a fixed order."""

    def quote(self, report_data: bytes) -> CpuEvidence:
        """Ask the CPU for a quote over 64 bytes."""

    def endorsements(self) -> Mapping[str, object] | None:
        """The vendors' endorsements of this machine, where it has them at hand."""

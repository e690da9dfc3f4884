"""A CPU and its devices as one machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from teeverify import snp, tdx
from teeverify.enclave.collectors import DeviceEvidence
from teeverify.errors import EndpointUnavailable, TeeVerifyError

__all__ = ["CpuSource", "Device", "DeviceSource", "Machine", "Quote"]

_QUESTION = 64
_REPORT_DATA: Mapping[str, Callable[[bytes], bytes]] = {
    "tdx": lambda quote: tdx.parse_quote(quote).report_data,
    "sev-snp": lambda report: snp.parse_report(report).report_data,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a CPU gave.

    Attributes:
        quote: The quote or report.
        certificates: What came beside it: AMD's certificate table.
        event_log: The events that were measured into its registers.
        info: What the guest agent says.
        vm_config: How the VM was launched, as JSON text.
    """

    quote: bytes
    certificates: bytes = b""
    event_log: Sequence[Mapping[str, object]] = ()
    info: Mapping[str, object] = field(default_factory=dict)
    vm_config: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The report of one GPU or switch, as a report carries it."""

    certificate: str
    evidence: str
    arch: str
    kind: int = 1


class CpuSource(Protocol):
    """Where quotes come from."""

    @property
    def platform(self) -> str:
        """``tdx`` or ``sev-snp``."""

    def quote(self, report_data: bytes) -> Quote:
        """Ask for a quote over 64 bytes.

        Raises:
            EndpointUnavailable: There is none.
        """


class DeviceSource(Protocol):
    """Where device reports come from."""

    def reports(self, nonce: bytes) -> Sequence[DeviceEvidence]:
        """Ask every device for a report over 32 bytes, in a fixed order.

        Raises:
            EndpointUnavailable: One of them gives none: a part is never given as the whole.
        """


class Machine:
    """A machine: a :class:`~teeverify.enclave.collectors.Tee` on real hardware.

    Args:
        cpu: Where quotes come from.
        gpus: Where device reports come from; ``None`` on a machine without GPUs.
    """

    def __init__(self, cpu: CpuSource, gpus: DeviceSource | None) -> None:
        self._cpu = cpu
        self._gpus = gpus
        self.platform = cpu.platform

    @property
    def has_event_log(self) -> bool:
        """Whether its quotes come with the events that dstack's dialects show."""
        return bool(self.quote(secrets.token_bytes(_QUESTION)).event_log)

    def devices(self, nonce: bytes) -> Sequence[DeviceEvidence]:
        """See :class:`~teeverify.enclave.collectors.Tee`."""
        return () if self._gpus is None else self._gpus.reports(nonce)

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.collectors.Tee`."""
        found = self._cpu.quote(report_data)
        self._require_over(found.quote, report_data)
        return found

    def endorsements(self) -> Mapping[str, object] | None:
        """None: clients have the vendors' endorsements from the vendors."""
        return None

    def _require_over(self, quote: bytes, report_data: bytes) -> None:
        """Whatever is in the way of the question, its answer is an answer to it."""
        read = _REPORT_DATA.get(self.platform)
        if read is None:
            return  # Azure's TPM answers a hash of it, and its source has looked
        try:
            found = read(quote)
        except TeeVerifyError as error:
            raise EndpointUnavailable(
                "this machine's quote has another form",
                id="endpoint.devices",
                got=error.message[:120],
            ) from None
        if found != report_data:
            raise EndpointUnavailable(
                "this machine's quote answers another question",
                id="endpoint.devices",
                got=found.hex(),
                want=report_data.hex(),
            )

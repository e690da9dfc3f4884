"""What a provider's file must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from teeverify.appraisal.evidence import Machine

__all__ = ["Dialect", "Recorded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One HTTP exchange that carried a report.

    Attributes:
        path: Path of the requested URL.
        query: Its query, one value a name.
        body: The answer's exact bytes.
        peer_spki_sha256: Fingerprint of the TLS key at the other end, if it was recorded.
    """

    path: str
    query: Mapping[str, str]
    body: bytes
    peer_spki_sha256: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's way to show evidence.

    Attributes:
        id: Its name, as ``--dialect`` takes it.
        hosts: Hosts that speak it; a leading dot takes subdomains too.
        report_path: Path of the report's route.
        read: From an exchange to machines. What layout holds follows from what was requested.
        text: One line for ``teeverify providers``.
    """

    id: str
    hosts: tuple[str, ...]
    report_path: str
    read: Callable[[Recorded], tuple[Machine, ...]]
    text: str

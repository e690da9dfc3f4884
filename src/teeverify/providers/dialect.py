"""What a provider's file must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from teeverify.appraisal.evidence import Machine
from teeverify.nvidia import Endorsements as NvidiaEndorsements
from teeverify.tdx import Endorsements as TdxEndorsements

__all__ = ["Dialect", "Enclosed", "Recorded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosed:
    """Endorsements that came inside a report: only signed data, verified like any others.

    Attributes:
        tdx: Intel's.
        nvidia: NVIDIA's.
    """

    tdx: TdxEndorsements | None = None
    nvidia: NvidiaEndorsements | None = None


def _nothing(body: bytes) -> Enclosed:
    del body
    return Enclosed()


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
        root: Path below which OpenAI's routes lie; base URLs end with it.
        signature_path: Route of an answer's signature below that path, with ``{id}``; empty where
            the dialect is read from recordings only.
        signed_routes: Routes below that path whose answers are signed.
        enclosed: From a report's bytes to the endorsements inside it.
    """

    id: str
    hosts: tuple[str, ...]
    report_path: str
    read: Callable[[Recorded], tuple[Machine, ...]]
    text: str
    root: str = "/v1"
    signature_path: str = ""
    signed_routes: tuple[str, ...] = ()
    enclosed: Callable[[bytes], Enclosed] = _nothing

    @property
    def live(self) -> bool:
        """Whether endpoints are attested live, and not only read from recordings."""
        return bool(self.signature_path)

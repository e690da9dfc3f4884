"""What a provider's file must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from teeverify.appraisal.evidence import Machine
from teeverify.errors import MalformedEvidence
from teeverify.nvidia import Endorsements as NvidiaEndorsements
from teeverify.providers.routes import Questions, holes
from teeverify.responses import TEXT, Form
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
        host: Host of the requested URL, if it was recorded.
        beside: Bodies of the further answers that belong to the report, by the dialect's names.
    """

    path: str
    query: Mapping[str, str]
    body: bytes
    peer_spki_sha256: bytes | None
    host: str = ""
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's way to show evidence.

    Attributes:
        id: Its name, as ``--dialect`` takes it.
        hosts: Hosts that speak it; a leading dot takes subdomains too.
        report_path: Path of the report's route; ``{name}`` in it stands for any segment.
        read: From an exchange to machines. What layout holds follows from what was requested.
        text: One line for ``teeverify providers``.
        root: Path below which OpenAI's routes lie; base URLs end with it.
        signature_path: Route of an answer's signature below that path, with ``{id}``; empty where
            the dialect is read from recordings only.
        signed_routes: Routes below that path whose answers are signed.
        enclosed: From a report's bytes to the endorsements inside it.
        asks: What is asked of the report's route beside nonce and model; the layout follows from
            it.
        asks_signature: What is asked of the signature's route beside the model, with ``{id}``.
        form: How its answers are signed; ``None`` where they are not.
        encryption: How requests are sealed to a key that its evidence binds, by name (``e2ee``);
            empty where it has no such way.
        also_at: Further paths at which the same report is shown.
        beside: Paths of further answers that belong to a report, by name, with the same segments.
        questions: What is asked of a live endpoint, where it is more than the report's route.
        fresh: Whether the evidence carries a nonce of ours.
        nonce: From a random value to the nonce, where it is derived from one.
        proves: What its evidence and signatures can prove, each as a clause.
        cannot: What they cannot, however good they are.
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
    asks: Mapping[str, str] = field(default_factory=dict)
    asks_signature: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = TEXT
    encryption: str = ""
    also_at: tuple[str, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    questions: Questions | None = None
    fresh: bool = True
    nonce: Callable[[bytes], bytes] | None = None
    proves: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether endpoints are attested live, and not only read from recordings."""
        return bool(self.signature_path) or self.questions is not None

    def machines(self, recorded: Recorded) -> tuple[Machine, ...]:
        """Read a recorded exchange; where it has another form, say in which dialect it was read.

        Raises:
            TeeVerifyError: What :attr:`read` raises.
        """
        try:
            return self.read(recorded)
        except MalformedEvidence as error:
            error.hint = error.hint or (
                f"It was read in the dialect {self.id}; 'teeverify providers' lists the others, "
                "for --dialect."
            )
            raise

    def holes(self, path: str) -> dict[str, str] | None:
        """The named segments of a report's path; ``None`` where it is another path."""
        for template in (self.report_path, *self.also_at):
            found = holes(template, path)
            if found is not None:
                return found
        return None

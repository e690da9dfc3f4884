"""Event logs: what was measured into the four runtime registers, replayed.

dstack's JSON log is read here, and the firmware's own (CCEL) in :mod:`teeverify.tdx.ccel`. A
register starts as 48 zero bytes and each event extends
it: ``SHA-384(register || digest)``.

Only digests are measured. What an event *says* is authenticated only where its digest is computed
here from what it says; of firmware events (RTMR0 to 2) the text beside the digest can be forged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass

from teeverify.encoding.fields import JsonObject
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import json_value
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.tdx.quote import Quote

__all__ = [
    "AppIdentity",
    "Event",
    "EventLog",
    "EventLogClaims",
    "KeyProvider",
    "replay_event_log",
    "verify_event_log",
    "verify_runtime_log",
]

CHECK = "code.event-log"
RUNTIME_EVENT = 0x08000001
SYSTEM_READY = "system-ready"
_DIGEST = 48
_RTMRS = 4
_RUNTIME_RTMR = 3
_MAX_EVENTS = 4096
_MAX_NAME = 1024
_MAX_PAYLOAD = 1024 * 1024
_MAX_U32 = 0xFFFFFFFF
_V1, _V2 = 1, 2
_SEAL = Seal("teeverify.tdx.verify_event_log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a log.

    Attributes:
        rtmr: The register that it extends.
        type: TCG event type, or dstack's 0x08000001.
        digest: What the register was extended with.
        name: The event's name in dstack's log; empty for firmware events.
        payload: What the event says; may be stripped from firmware events.
        authenticated: Whether ``digest`` was computed here from name and payload. Where it is
            false, whoever delivered the log could have written anything there.
    """

    rtmr: int
    type: int
    digest: bytes
    name: str
    payload: bytes
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProvider:
    """Who gives a dstack VM its keys.

    Attributes:
        name: ``kms``, ``local-sgx``, ``tpm`` or ``none``.
        id: The provider's public key or measurement, as the log spells it.
    """

    name: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppIdentity:
    """What dstack's OS wrote into RTMR3 about the application, before the application ran.

    A value that the log does not have is ``None``.

    Attributes:
        sealed: Whether the log has the event ``system-ready``. Images without it let the
            application itself write events that look like these.
        app_id: 20 bytes.
        compose_hash: SHA-256 of the exact ``app-compose.json``.
        instance_id: 20 bytes; empty where the instance has none.
        os_image_hash: Of the OS image, as dstack computes it.
        mr_kms: Measurement of the KMS that gave the keys.
        key_provider: Who gave the keys.
    """

    sealed: bool
    app_id: bytes | None
    compose_hash: bytes | None
    instance_id: bytes | None
    os_image_hash: bytes | None
    mr_kms: bytes | None
    key_provider: KeyProvider | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A replayed log: untrusted until :func:`verify_event_log` compared it with a quote.

    Attributes:
        events: In order.
        rtmrs: The registers that the events give.
    """

    events: tuple[Event, ...]
    rtmrs: tuple[bytes, bytes, bytes, bytes]

    def named(self, name: str) -> bytes | None:
        """The payload of a runtime event that the OS wrote before ``system-ready``.

        Args:
            name: Name of the event.

        Returns:
            The payload; ``None`` where there is no such event.

        Raises:
            MalformedEvidence: There is more than one.
        """
        events = self._boot_events()
        # Version 1 hashes name and payload without saying where the name ends.
        if any(event.name.startswith(f"{name}:") for event in events):
            raise _malformed(name, "a name that may be this one and part of its payload")
        found = [event.payload for event in events if event.name == name]
        if len(found) > 1:
            raise _malformed(name, "more than one such event before system-ready")
        return found[0] if found else None

    @property
    def sealed(self) -> bool:
        """Whether the log has the event ``system-ready``."""
        return any(event.authenticated and event.name == SYSTEM_READY for event in self.events)

    @property
    def identity(self) -> AppIdentity:
        """What the OS wrote about the application.

        Raises:
            MalformedEvidence: A value twice, or of another form.
        """
        provider = self.named("key-provider")
        return AppIdentity(
            sealed=self.sealed,
            app_id=self._sized("app-id", (20,)),
            compose_hash=self._sized("compose-hash", (32,)),
            instance_id=self._sized("instance-id", (0, 20)),
            os_image_hash=self._sized("os-image-hash", (32,)),
            mr_kms=self._sized("mr-kms", (32,)),
            key_provider=None if provider is None else _key_provider(provider),
        )

    def _boot_events(self) -> list[Event]:
        found: list[Event] = []
        for event in self.events:
            if not event.authenticated:
                continue
            if event.name == SYSTEM_READY:
                break
            found.append(event)
        return found

    def _sized(self, name: str, sizes: Sequence[int]) -> bytes | None:
        value = self.named(name)
        if value is not None and len(value) not in sizes:
            want = " or ".join(map(str, sizes))
            raise _malformed(name, f"{len(value)} bytes, not {want}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EventLogClaims(Sealed):
    """A log whose replay gives the registers of a quote.

    Attributes:
        log: The log.
        quote: The quote; it is genuine where it comes from :class:`~teeverify.tdx.Claims`.
        identity: What dstack's OS wrote about the application.
    """

    log: EventLog
    quote: Quote
    identity: AppIdentity
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, _SEAL)

    @property
    def unauthenticated(self) -> tuple[int, ...]:
        """The indexes of events of which only the digest is proved, not what they say."""
        events = enumerate(self.log.events)
        return tuple(index for index, event in events if not event.authenticated)


def replay_event_log(log: str | bytes | Sequence[object]) -> EventLog:
    """Read and replay a dstack event log.

    Args:
        log: The JSON text, or the list that it decodes to.

    Raises:
        MalformedEvidence: Not such a log, too many or too large events, an event in RTMR3 that is
            no runtime event, or a runtime event whose digest is not that of its name and payload.
    """
    items: object = log
    if isinstance(log, (str, bytes)):
        items = json_value(log, field="event_log", id=CHECK)
    if not isinstance(items, (list, tuple)):
        raise MalformedEvidence(
            "event_log: not a list", id=CHECK, field="event_log", got=type(items).__name__
        )
    if len(items) > _MAX_EVENTS:
        raise MalformedEvidence(
            "event_log: too many events",
            id=CHECK,
            field="event_log",
            need=f"at most {_MAX_EVENTS}",
            have=len(items),
        )
    return replayed([_event(item, f"event_log[{index}]") for index, item in enumerate(items)])


def replayed(events: Sequence[Event]) -> EventLog:
    """Extend four empty registers with events, in order."""
    registers = [bytes(_DIGEST)] * _RTMRS
    for event in events:
        registers[event.rtmr] = hashlib.sha384(registers[event.rtmr] + event.digest).digest()
    rtmr0, rtmr1, rtmr2, rtmr3 = registers
    return EventLog(events=tuple(events), rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3))


def verify_event_log(
    log: EventLog | str | bytes | Sequence[object], quote: Quote
) -> EventLogClaims:
    """Replay a log and compare all four registers with those of a quote.

    Args:
        log: A replayed log, or what :func:`replay_event_log` takes.
        quote: The quote; pass ``claims.quote``, so that it is a verified one.

    Raises:
        MalformedEvidence: The log cannot be read, or names an identity twice.
        BindingMismatch: A register differs.
        ConfigurationError: The quote is of an SGX enclave.
    """
    if not isinstance(quote, Quote):
        raise ConfigurationError("quote must be a tdx.Quote", id="usage.tdx")
    found = log if isinstance(log, EventLog) else replay_event_log(log)
    _require_registers(found, quote, range(_RTMRS))
    return EventLogClaims(log=found, quote=quote, identity=found.identity, seal=_SEAL)


def verify_runtime_log(log: str | bytes | Sequence[object], quote: Quote) -> AppIdentity:
    """Replay a log that may hold only dstack's own events, as certificates carry it.

    Such a log says nothing of RTMR0 to 2; where it has an event of one of them, all must agree.

    Args:
        log: What :func:`replay_event_log` takes.
        quote: The verified quote.

    Returns:
        What dstack's OS wrote about the application, all of it measured into RTMR3.

    Raises:
        MalformedEvidence: The log cannot be read, or names an identity twice.
        BindingMismatch: A register differs.
    """
    found = replay_event_log(log)
    runtime_only = all(event.rtmr == _RUNTIME_RTMR for event in found.events)
    _require_registers(found, quote, (_RUNTIME_RTMR,) if runtime_only else range(_RTMRS))
    return found.identity


def _require_registers(log: EventLog, quote: Quote, which: Iterable[int]) -> None:
    _require_computed(log.events)
    registers = replayed(log.events).rtmrs
    for index in which:
        got, want = registers[index], quote.td.rtmrs[index]
        if got != want:
            count = sum(event.rtmr == index for event in log.events)
            raise BindingMismatch(
                f"the event log does not give the quote's RTMR{index}",
                id=CHECK,
                got=f"{got.hex()} from {count} events",
                want=want.hex(),
                hint="The log was changed, or belongs to another boot or machine.",
            )


def _require_computed(events: Sequence[Event]) -> None:
    """An event counts as authenticated only by its digest, whoever built the log object."""
    for event in filter(lambda event: event.authenticated, events):
        digests = [runtime_digest(event.name, event.payload, version=one) for one in (_V1, _V2)]
        if event.digest not in digests:
            raise _malformed(event.name, "the digest is not that of its name and payload")


def runtime_digest(name: str, payload: bytes, *, version: int = _V1) -> bytes:
    """The digest of a dstack runtime event, from what it says.

    Args:
        name: Name of the event.
        payload: Its payload.
        version: 1: ``LE32(type) || ":" || name || ":" || payload``; 2: RFC 8785 JSON.
    """
    return hashlib.sha384(_preimage(name, payload, version)).digest()


def _preimage(name: str, payload: bytes, version: int) -> bytes:
    if version == _V1:
        return b":".join((RUNTIME_EVENT.to_bytes(4, "little"), name.encode("utf-8"), payload))
    # RFC 8785: sorted members, no spaces; Python escapes strings as it demands (section 3.2.2.2).
    text = json.dumps(
        {"name": name, "payload": payload.hex(), "type": RUNTIME_EVENT},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return text.encode("utf-8")


def _event(item: object, path: str) -> Event:
    entry = JsonObject(item, path=path, id=CHECK)
    rtmr = _integer(entry, "imr", _RTMRS - 1)
    kind = _integer(entry, "event_type", _MAX_U32)
    payload = entry.hex("event_payload") if "event_payload" in entry else b""
    name = entry.text("event") if "event" in entry else ""
    digest = entry.hex("digest") if "digest" in entry else b""
    if len(name) > _MAX_NAME or len(payload) > _MAX_PAYLOAD:
        raise _malformed(path, "name or payload too long")
    if (rtmr == _RUNTIME_RTMR) != (kind == RUNTIME_EVENT):
        raise _malformed(path, "RTMR3 holds runtime events, and no other register does")
    if kind == RUNTIME_EVENT:
        digest = _recomputed(entry, name, payload, digest)
    elif len(digest) != _DIGEST:
        raise _malformed(path, f"a digest of {len(digest)} bytes, not {_DIGEST}")
    return Event(
        rtmr=rtmr,
        type=kind,
        digest=digest,
        name=name,
        payload=payload,
        authenticated=kind == RUNTIME_EVENT,
    )


def _recomputed(entry: JsonObject, name: str, payload: bytes, stated: bytes) -> bytes:
    """The digest of a runtime event from what it says; what the log states must agree."""
    version = _integer(entry, "version", _V2) if "version" in entry else _V1
    if version not in (_V1, _V2):
        raise _malformed(entry.path, f"version {version}, not 1 or 2")
    try:
        preimage = _preimage(name, payload, version)
    except UnicodeEncodeError:
        raise _malformed(entry.path, "a name that is not Unicode text") from None
    if "preimage" in entry:
        text = entry.text("preimage")
        given = text.encode("utf-8") if text.startswith("{") else entry.hex("preimage")
        if given != preimage:
            raise _malformed(entry.path, "the preimage is not that of its name and payload")
    digest = hashlib.sha384(preimage).digest()
    if stated not in (b"", digest):
        raise _malformed(entry.path, "the digest is not that of its name and payload")
    return digest


def _key_provider(payload: bytes) -> KeyProvider:
    found = JsonObject.parse(payload, path="event_log.key-provider", id=CHECK)
    return KeyProvider(name=found.text("name"), id=found.text("id"))


def _integer(entry: JsonObject, name: str, most: int) -> int:
    value = entry.integer(name)
    if not 0 <= value <= most:
        raise _malformed(f"{entry.path}.{name}", f"not between 0 and {most}")
    return value


def _malformed(field: str, problem: str) -> MalformedEvidence:
    path = field if field.startswith("event_log") else f"event_log.{field}"
    return MalformedEvidence(f"{path}: {problem}", id=CHECK, field=path)

"""Event logs: replay, what of them is authenticated, and what is read as the application's name."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle

import pytest

from teeverify import tdx
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.simulator.dstack import Dstack

GUEST = Dstack()
RUNTIME = 0x08000001


def boot(**options) -> Dstack:
    return Dstack(**options)


def quote_of(forge, guest):
    return tdx.parse_quote(forge.intel.quote(rtmrs=guest.rtmrs))


def verified(forge, guest, log=None):
    return tdx.verify_event_log(guest.event_log if log is None else log, quote_of(forge, guest))


# --- replay ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["list", "text", "bytes", "stripped"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_log_gives_the_registers_of_its_quote(forge, form, version):
    guest = boot(version=version)
    log = {
        "list": guest.event_log,
        "text": guest.event_log_text,
        "bytes": guest.event_log_text.encode(),
        "stripped": guest.stripped_log(),
    }[form]
    assert tdx.replay_event_log(log).rtmrs == guest.rtmrs
    found = verified(forge, guest, log)
    assert found.identity.compose_hash == guest.compose_hash
    assert found.identity.app_id == guest.app_id
    assert found.identity.key_provider.name == "kms"
    assert found.identity.sealed
    assert found.quote.td.rtmrs == guest.rtmrs


def test_an_empty_log_is_the_log_of_empty_registers(forge):
    assert tdx.replay_event_log([]).rtmrs == (bytes(48),) * 4
    found = tdx.verify_event_log([], tdx.parse_quote(forge.intel.quote()))
    assert found.identity.compose_hash is None
    assert not found.identity.sealed


@pytest.mark.parametrize("rtmr", range(4))
def test_a_register_that_differs_is_named(forge, rtmr):
    registers = list(GUEST.rtmrs)
    registers[rtmr] = hashlib.sha384(registers[rtmr]).digest()
    quote = tdx.parse_quote(forge.intel.quote(rtmrs=registers))
    with pytest.raises(BindingMismatch, match=f"RTMR{rtmr}") as caught:
        tdx.verify_event_log(GUEST.event_log, quote)
    assert caught.value.id == "code.event-log"
    assert GUEST.rtmrs[rtmr].hex() in caught.value.got
    assert caught.value.want == registers[rtmr].hex()


def test_events_left_out_added_or_swapped(forge):
    log = GUEST.event_log
    again = [*log, log[-1]]
    for changed in (log[1:], log[:-1], again, [log[1], log[0], *log[2:]], log[::-1]):
        with pytest.raises(BindingMismatch):
            verified(forge, GUEST, changed)


def test_any_changed_runtime_event_is_refused(forge):
    for index, event in enumerate(GUEST.event_log):
        if event["imr"] != 3:
            continue
        for change in (
            {"event": event["event"] + "x"},
            {"event_payload": event["event_payload"] + "00"},
        ):
            kept = {**event, **change}
            log = [*GUEST.event_log[:index], kept, *GUEST.event_log[index + 1 :]]
            with pytest.raises(MalformedEvidence, match="digest is not that"):
                verified(forge, GUEST, log)
            log[index] = {**kept, "digest": ""}
            with pytest.raises(BindingMismatch, match="RTMR3"):
                verified(forge, GUEST, log)


def test_what_firmware_events_say_is_not_authenticated(forge):
    log = [
        {**event, "event_payload": "ff", "event": "compose-hash"} if event["imr"] < 3 else event
        for event in GUEST.event_log
    ]
    found = verified(forge, GUEST, log)
    assert found.identity.compose_hash == GUEST.compose_hash
    assert found.unauthenticated == tuple(
        index for index, event in enumerate(log) if event["imr"] < 3
    )
    assert all(event.authenticated == (event.rtmr == 3) for event in found.log.events)


# --- identity --------------------------------------------------------------------------------


def test_the_application_cannot_name_itself_after_system_ready(forge):
    lies = [("compose-hash", bytes(32)), ("app-id", bytes(20)), ("system-ready", b"")]
    guest = boot(app_events=[*lies, ("a:b", b""), ("compose-hash", b"short")])
    found = verified(forge, guest)
    assert found.identity.compose_hash == guest.compose_hash
    assert found.identity.app_id == guest.app_id


def test_without_system_ready_nothing_is_sealed_and_nothing_may_be_said_twice(forge):
    guest = boot(ready=False)
    assert not verified(forge, guest).identity.sealed
    assert verified(forge, guest).identity.compose_hash == guest.compose_hash
    twice = boot(ready=False, app_events=[("compose-hash", bytes(32))])
    with pytest.raises(MalformedEvidence, match="more than one"):
        verified(forge, twice)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("app-id", bytes(19)),
        ("compose-hash", bytes(31)),
        ("compose-hash", b""),
        ("instance-id", bytes(21)),
        ("os-image-hash", bytes(33)),
        ("mr-kms", b"\0"),
        ("key-provider", b"not json"),
        ("key-provider", b'{"name":"kms"}'),
        ("key-provider", b'{"name":5,"id":""}'),
        ("key-provider", b"\xff"),
    ],
)
def test_identities_of_another_form(forge, name, payload):
    with pytest.raises(MalformedEvidence) as caught:
        verified(forge, boot(events={name: payload}))
    assert caught.value.id == "code.event-log"


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("app-id", "app_id"),
        ("compose-hash", "compose_hash"),
        ("instance-id", "instance_id"),
        ("os-image-hash", "os_image_hash"),
        ("mr-kms", "mr_kms"),
        ("key-provider", "key_provider"),
    ],
)
def test_an_identity_that_was_not_written_is_none(forge, name, attribute):
    assert getattr(verified(forge, boot(events={name: None})).identity, attribute) is None
    assert getattr(verified(forge, boot()).identity, attribute) is not None


def test_an_instance_may_have_no_id(forge):
    assert verified(forge, boot(events={"instance-id": b""})).identity.instance_id == b""


def test_a_name_that_swallows_its_payload_is_refused(forge):
    # Version 1 hashes name and payload without saying where the name ends.
    guest = boot(events={"compose-hash": b"ab:cd"})
    index = next(n for n, e in enumerate(guest.event_log) if e["event"] == "compose-hash")
    log = copy.deepcopy(guest.event_log)
    log[index] |= {"event": "compose-hash:ab", "event_payload": b"cd".hex()}
    assert tdx.replay_event_log(log).rtmrs == guest.rtmrs
    with pytest.raises(MalformedEvidence, match="may be this one"):
        verified(forge, guest, log)


def test_any_boot_event_by_name(forge):
    log = verified(forge, boot(events={"gpu-policy-hash": bytes(32)})).log
    assert log.named("gpu-policy-hash") == bytes(32)
    assert log.named("storage-fs") == b"zfs"
    assert log.named("none") is None


# --- form ------------------------------------------------------------------------------------


def one(**changes):
    event = {
        "imr": 0,
        "event_type": 4,
        "digest": "00" * 48,
        "event": "",
        "event_payload": "",
    }
    found = {**event, **changes}
    return [{name: value for name, value in found.items() if value != "absent"}]


@pytest.mark.parametrize(
    "log",
    [
        "",
        "{}",
        "[",
        "null",
        b"\xff",
        {},
        None,
        5,
        [None],
        [[]],
        ["event"],
        [{}],
        one(imr=4),
        one(imr=-1),
        one(imr="0"),
        one(imr=True),
        one(imr="absent"),
        one(event_type=-1),
        one(event_type=1 << 32),
        one(event_type="absent"),
        one(digest="00" * 47),
        one(digest="00" * 20),
        one(digest=""),
        one(digest="absent"),
        one(digest="zz" * 48),
        one(digest=None),
        one(event=5),
        one(event="x" * 2000),
        one(event_payload="0"),
        one(event_payload=[]),
        one(event_payload="00" * (1024 * 1024 + 1)),
        one(imr=3),
        one(imr=3, event_type=10),
        one(imr=0, event_type=RUNTIME),
        one(imr=3, event_type=RUNTIME, event="\ud800", digest=""),
        one(imr=3, event_type=RUNTIME, digest="", version=3),
        one(imr=3, event_type=RUNTIME, digest="", version=0),
        one(imr=3, event_type=RUNTIME, digest="", version="1"),
        one(imr=3, event_type=RUNTIME, digest="", version=2, preimage="00"),
        one(imr=3, event_type=RUNTIME, digest="", version=2, preimage="{}"),
        one(imr=3, event_type=RUNTIME, digest="", version=2, preimage=5),
        one() * 4097,
        "[" * 100 + "]" * 100,
    ],
    ids=lambda log: repr(log)[:40],
)
def test_logs_of_another_form(log):
    with pytest.raises(MalformedEvidence) as caught:
        tdx.replay_event_log(log)
    assert caught.value.id == "code.event-log"


def test_the_preimage_of_version_2_may_be_text_or_hex():
    text = '{"name":"é\\"\\n","payload":"ab","type":134217729}'
    digest = hashlib.sha384(text.encode()).hexdigest()
    for preimage in (text, text.encode().hex()):
        event = one(
            imr=3,
            event_type=RUNTIME,
            event='é"\n',
            event_payload="AB",
            version=2,
            preimage=preimage,
            digest=digest,
        )
        assert tdx.replay_event_log(event).events[0].digest.hex() == digest


def test_known_answer_of_version_1():
    # LE32(0x08000001) ":" "app-id" ":" deadbeef
    preimage = bytes.fromhex("01000008") + b":app-id:" + bytes.fromhex("deadbeef")
    event = one(imr=3, event_type=RUNTIME, event="app-id", event_payload="deadbeef", digest="")
    log = tdx.replay_event_log(event)
    assert log.events[0].digest == hashlib.sha384(preimage).digest()
    assert log.rtmrs[3] == hashlib.sha384(bytes(48) + log.events[0].digest).digest()


# --- types -----------------------------------------------------------------------------------


def test_only_verification_makes_claims(forge):
    found = verified(forge, GUEST)
    with pytest.raises(ConfigurationError):
        tdx.EventLogClaims(log=found.log, quote=found.quote, identity=found.identity, seal=object())
    with pytest.raises(ConfigurationError):
        pickle.dumps(found)


def test_a_log_object_cannot_declare_itself_authenticated(forge):
    digest = hashlib.sha384(b"measured").digest()
    lie = tdx.Event(
        rtmr=3,
        type=RUNTIME,
        digest=digest,
        name="compose-hash",
        payload=bytes(32),
        authenticated=True,
    )
    register = hashlib.sha384(bytes(48) + digest).digest()
    log = tdx.EventLog(events=(lie,), rtmrs=(bytes(48), bytes(48), bytes(48), register))
    quote = tdx.parse_quote(forge.intel.quote(rtmrs=log.rtmrs))
    with pytest.raises(MalformedEvidence):
        tdx.verify_event_log(log, quote)


def test_a_log_object_cannot_state_other_registers_than_its_events_give(forge):
    log = tdx.EventLog(events=(), rtmrs=GUEST.rtmrs)
    with pytest.raises(BindingMismatch):
        tdx.verify_event_log(log, quote_of(forge, GUEST))


def test_a_log_needs_the_quote_of_a_vm(forge):
    sgx = tdx.parse_quote(forge.intel.quote(version=3, body="sgx"))
    for wrong in (sgx, forge.intel.quote(), None):
        with pytest.raises(ConfigurationError):
            tdx.verify_event_log(GUEST.event_log, wrong)


# --- real logs -------------------------------------------------------------------------------


@pytest.mark.vectors
def test_real_dstack_log(vectors):
    report = json.loads((vectors / "tdx/dstack_quote_report.json").read_text())
    quote = tdx.parse_quote(bytes.fromhex(report["quote"]))
    found = tdx.verify_event_log(report["event_log"], quote)
    assert len(found.log.events) == 28
    assert found.identity.compose_hash.hex().startswith("3763bc34552cf3a27ff71ad5f7a90471562a1a2d")
    assert found.identity.app_id == found.identity.compose_hash[:20]
    assert found.identity.sealed
    assert found.identity.key_provider.name == "local-sgx"
    # Written by the application, after system-ready.
    assert found.log.events[-1].name == "LIUM_MINER_HOTKEY"
    assert found.log.named("LIUM_MINER_HOTKEY") is None


@pytest.mark.vectors
@pytest.mark.parametrize("capture", ["nearcloud-20260629", "venice-20260610", "nanogpt-20260610"])
def test_recorded_logs(vectors, capture):
    (path,) = (vectors / "endpoints/captures" / capture).glob("0001_*.body")
    found = 0
    for part in _reports(json.loads(path.read_text())):
        quote = tdx.parse_quote(bytes.fromhex(part.get("intel_quote") or part["quote"]))
        claims = tdx.verify_event_log(part["event_log"], quote)
        compose = part.get("info", {}).get("tcb_info", {}).get("app_compose")
        if compose is not None:
            config = tdx.verify_app_compose(compose, quote, claims)
            assert config.ties == {"mr_config_id", "event_log"}
            with pytest.raises(BindingMismatch):
                tdx.verify_app_compose(compose + "\n", quote, claims)
        found += 1
    assert found


def _reports(value):
    if isinstance(value, dict):
        if "event_log" in value and ("intel_quote" in value or "quote" in value):
            yield value
        for inner in value.values():
            yield from _reports(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _reports(inner)

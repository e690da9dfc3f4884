"""The byte rules: two implementations, the published known answers, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.binding.teeverify1 import (
    BINDING_BYTES,
    Device,
    Process,
    challenge_of,
    nonce_of,
    read_binding,
)
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.crypto.eip712 import typed_hash
from teeverify.crypto.ethereum import recover_address
from teeverify.errors import (
    BindingMismatch,
    MalformedEvidence,
    ResponseNotVerified,
    SignatureUnavailable,
)
from teeverify.responses import statement as st1
from teeverify.responses.statement_form import STATEMENT as STATEMENT_FORM

from . import second

KNOWN = json.loads((Path(__file__).parent / "known_answers.json").read_text("ascii"))
STATEMENTS = KNOWN["statements"]


def process_of(given):
    def raw(name):
        return None if given[name] is None else bytes.fromhex(given[name])

    devices = [
        Device(
            kind=one["kind"],
            certificate_sha256=hashlib.sha256(bytes.fromhex(one["leaf"])).digest(),
            evidence_sha256=hashlib.sha256(bytes.fromhex(one["evidence"])).digest(),
        )
        for one in given["devices"]
    ]
    return Process(
        address=raw("address"),
        ed25519=raw("ed25519"),
        tls_spki_sha256=raw("tls"),
        hpke_key=raw("hpke"),
        config=raw("config"),
        devices=tuple(sorted(devices)),
    )


@pytest.mark.parametrize("case", KNOWN["bindings"], ids=lambda case: case["name"])
def test_bindings(case):
    process, nonce = process_of(case["given"]), bytes.fromhex(case["given"]["nonce"])
    assert {
        "device_set": process.device_set.hex(),
        "gpu_evidence": process.gpu_evidence.hex(),
        "mid": process.mid.hex(),
        "gpu_nonce": process.gpu_nonce(nonce).hex(),
        "instance": process.instance.hex(),
        "binding": process.binding(nonce).hex(),
        "report_data": process.report_data(nonce).hex(),
    } == case["want"]


def test_the_figures_of_the_design():
    want = KNOWN["bindings"][0]["want"]
    assert re.fullmatch("3ee0a466[0-9a-f]+2170", want["device_set"])
    assert re.fullmatch("2236900f[0-9a-f]+bc14", want["gpu_nonce"])
    assert re.fullmatch("2abb0120[0-9a-f]+4e3d", want["instance"])
    assert re.fullmatch("496d8973[0-9a-f]+2a4e", want["gpu_evidence"])
    hashed = "1814c98b6fe8e53f76f64af4a16c0891ebe68ebd853dec0bc692a340d241b2cb"
    assert want["report_data"][:64] == hashed
    assert want["report_data"][64:] == b"teeverify/1".hex() + "00" * 21
    assert st1._ANSWER_TYPE.hex().startswith("b4a34c7e")
    assert st1._SEPARATOR.hex().startswith("305156a2")


@pytest.mark.parametrize("case", KNOWN["questions"], ids=lambda case: case["beacon"][:4])
def test_nonces_and_challenges(case):
    random, attestation, beacon = (
        bytes.fromhex(case[name]) for name in ("random", "attestation", "beacon")
    )
    assert nonce_of(random, beacon).hex() == case["nonce"]
    made = challenge_of(random, hashlib.sha256(attestation).digest(), beacon)
    assert made.hex() == case["challenge"]


@pytest.mark.parametrize("case", STATEMENTS, ids=lambda case: case["name"])
def test_statements(case):
    raw, want = case["statement"].encode(), case["want"]
    statement = st1.parse_statement(raw)
    assert statement.to_bytes() == raw == second.canonical(json.loads(raw))
    assert hashlib.sha256(raw).hexdigest() == want["sha256"]
    assert statement.digest.hex() == want["digest"] == second.digest(json.loads(raw)).hex()
    signature = bytes.fromhex(want["secp256k1"])
    assert recover_address(statement.digest, signature, id="x").hex() == KNOWN["keys"]["address"]
    verify_ed25519(
        bytes.fromhex(KNOWN["keys"]["ed25519"]),
        bytes.fromhex(want["ed25519"]),
        statement.message,
        id="x",
        what="x",
    )


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(), st.binary()), max_size=9, unique=True),
    st.tuples(*[st.none() | st.binary(min_size=32, max_size=32).filter(any)] * 3),
    st.binary(max_size=99),
    st.binary(min_size=32, max_size=32),
)
def test_both_implementations_agree(devices, keys, config, nonce):
    if len({(kind, leaf) for kind, leaf, _ in devices}) < len(devices):
        return
    address = b"\x07" * 20
    made = Process(
        address=address,
        ed25519=keys[0],
        tls_spki_sha256=keys[1],
        hpke_key=keys[2],
        config=config,
        devices=tuple(
            sorted(
                Device(
                    kind=kind,
                    certificate_sha256=hashlib.sha256(leaf).digest(),
                    evidence_sha256=hashlib.sha256(shown).digest(),
                )
                for kind, leaf, shown in devices
            )
        ),
    )
    middle = second.mid(address, *keys, config, devices)
    assert made.mid == middle
    bound = second.binding(nonce, middle, devices)
    assert made.binding(nonce) == bound
    assert made.report_data(nonce) == second.report_data(bound)
    assert made.gpu_nonce(nonce) == second.gpu_nonce(nonce, middle)
    assert made.instance == second.instance(middle)
    read = read_binding(bound, id="x")
    assert (read.nonce, read.address, read.ed25519) == (nonce, address, keys[0])


# --- what has no bytes -------------------------------------------------------------------------

GPU = Device(kind=1, certificate_sha256=b"c" * 32, evidence_sha256=b"e" * 32)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"address": b""},
        {"address": b"\0" * 20},
        {"address": b"a" * 19},
        {"ed25519": b"a" * 20},
        {"address": b"a" * 20, "hpke_key": b"\0" * 32},
        {"address": b"a" * 20, "devices": (GPU, GPU)},
        {"address": b"a" * 20, "devices": (replace(GPU, kind=2), GPU)},
        {"address": b"a" * 20, "devices": (replace(GPU, kind=3),)},
        {"address": b"a" * 20, "devices": (replace(GPU, certificate_sha256=b"c"),)},
    ],
)
def test_processes_that_are_none(members):
    with pytest.raises(BindingMismatch):
        Process(config=b"{}", **members)


def test_no_binding_without_evidence_or_with_a_short_nonce():
    process = Process(address=b"a" * 20, config=b"", devices=(replace(GPU, evidence_sha256=b""),))
    with pytest.raises(BindingMismatch):
        process.binding(b"n" * 32)
    with pytest.raises(BindingMismatch):
        process.gpu_nonce(b"n" * 31)


def _flip(place, bits):
    raw = bytearray(bytes.fromhex(KNOWN["bindings"][0]["want"]["binding"]))
    raw[place] ^= bits
    return bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        _flip(0, 1),  # tag
        _flip(48, 0x80),  # an unknown flag
        _flip(49, 0x20),  # another one
        _flip(49, 0x08),  # HPKE without a key
        _flip(49, 0x01),  # a key without its flag
        _flip(49, 0x10),  # devices without theirs
        _flip(0, 0)[:-1],
        _flip(0, 0) + b"\0",
    ],
)
def test_bindings_that_are_none(raw):
    assert len(_flip(0, 0)) == BINDING_BYTES
    with pytest.raises(MalformedEvidence):
        read_binding(raw, id="x")


def test_every_bit_of_the_binding_counts():
    process = process_of(KNOWN["bindings"][0]["given"])
    nonce = b"\1" * 32
    others = [
        replace(process, address=b"\x12" * 20),
        replace(process, ed25519=None),
        replace(process, tls_spki_sha256=None),
        replace(process, hpke_key=b"h" * 32),
        replace(process, config=b"{ }"),
        replace(process, devices=process.devices[:1]),
    ]
    assert len({one.instance for one in (process, *others)}) == 7
    assert len({one.gpu_nonce(nonce) for one in (process, *others)}) == 7
    assert len({one.report_data(nonce) for one in (process, *others)}) == 7


# --- statements --------------------------------------------------------------------------------

GOOD = json.loads(STATEMENTS[0]["statement"])


def changed(path, value):
    found = json.loads(STATEMENTS[0]["statement"])
    place = found
    *way, last = path.split(".")
    for name in way:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return second.canonical(found)


@pytest.mark.parametrize(
    "raw",
    [
        *(changed(name, ...) for name in GOOD),
        *(changed(f"request.{name}", ...) for name in GOOD["request"]),
        *(changed(f"response.{name}", ...) for name in GOOD["response"]),
        *(changed(f"engine.{name}", ...) for name in GOOD["engine"]),
        changed("more", 1),
        changed("engine.more", "x"),
        changed("type", "teeverify/2 statement"),
        changed("challenge", "CD" * 32),
        changed("challenge", "cd" * 31),
        changed("end", "done"),
        changed("id", "chatcmpl-1"),
        changed("sequence", 0),
        changed("sequence", 2**53),
        changed("sequence", True),
        changed("sequence", 1.0),
        changed("time_ms", -1),
        changed("response.status", 600),
        changed("response.hash", None),
        changed("response.hash", "sha1:" + "0" * 64),
        changed("request.target", "/\u00fc"),
        changed("request.target", "/" + "a" * 4096),
        STATEMENTS[0]["statement"].replace(",", ", ", 1).encode(),
        STATEMENTS[0]["statement"].replace('"end":"complete",', "", 1)[:-1].encode()
        + b',"end":"complete"}',
        b"{}",
        b"[]",
        b"",
    ],
)
def test_statements_that_are_none(raw):
    with pytest.raises(MalformedEvidence):
        st1.parse_statement(raw)


@given(st.integers(0, len(STATEMENTS[0]["statement"]) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_the_digest(place, bits):
    raw = bytearray(STATEMENTS[0]["statement"].encode())
    raw[place] ^= bits
    try:
        found = st1.parse_statement(bytes(raw))
    except MalformedEvidence:
        return
    assert found.digest.hex() != STATEMENTS[0]["want"]["digest"]


def test_typed_data_of_other_sizes():
    for value in (b"x", -1, 2**256):
        with pytest.raises(MalformedEvidence):
            typed_hash(bytes(32), [value])


# --- how they are carried ----------------------------------------------------------------------

STATEMENT = st1.parse_statement(STATEMENTS[0]["statement"].encode())
SIGNATURES = {name: bytes.fromhex(STATEMENTS[0]["want"][name]) for name in ("secp256k1", "ed25519")}
TRAILER = st1.write_trailer(STATEMENT, SIGNATURES)
CONTENT = b"data: {}\n\ndata: [DONE]\n\n"


def test_a_trailer_is_no_part_of_the_content():
    content, signed = st1.read_trailer(CONTENT + TRAILER)
    assert content == CONTENT
    assert signed == st1.write_signed(STATEMENT, SIGNATURES)
    assert st1.parse_signed(signed).statement == STATEMENT


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (CONTENT, ResponseNotVerified),
        (b"", ResponseNotVerified),
        (TRAILER, ResponseNotVerified),
        (CONTENT + TRAILER + b"\n", MalformedEvidence),
        (CONTENT + TRAILER + b"data: {}\n\n", MalformedEvidence),
        (CONTENT + TRAILER[:-1], MalformedEvidence),
        (CONTENT + TRAILER[:-2] + b"\r\n", MalformedEvidence),
        (CONTENT + TRAILER + TRAILER, MalformedEvidence),
        (b"\r" + TRAILER + CONTENT + TRAILER, MalformedEvidence),
        (TRAILER + CONTENT + TRAILER, MalformedEvidence),
        (CONTENT + TRAILER.replace(b" ed25519", b"  ed25519"), MalformedEvidence),
        (CONTENT + TRAILER.replace(b"secp256k1=", b"rsa="), MalformedEvidence),
        (CONTENT + TRAILER.upper(), ResponseNotVerified),
    ],
)
def test_trailers_that_are_none(body, error):
    with pytest.raises(error):
        st1.read_trailer(body)


@pytest.mark.parametrize("cut", range(1, len(TRAILER), 37))
def test_a_cut_trailer_is_none(cut):
    with pytest.raises((MalformedEvidence, ResponseNotVerified)):
        st1.read_trailer(CONTENT + TRAILER[:-cut])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (CONTENT, SignatureUnavailable),
        (CONTENT[:-1], ResponseNotVerified),
        (CONTENT[:9], ResponseNotVerified),
        (CONTENT + b"data: {}\n\n", ResponseNotVerified),
        (CONTENT + TRAILER.upper(), ResponseNotVerified),
        (CONTENT + TRAILER[:20], MalformedEvidence),
    ],
)
def test_a_stream_without_a_trailer_broke_off_or_was_not_signed(body, error):
    with pytest.raises(error):
        STATEMENT_FORM.carrying.split(body, {"content-type": "text/event-stream; charset=utf-8"})


def test_signatures_stand_in_one_order_only():
    header = st1.write_header(SIGNATURES)
    import base64

    text = base64.urlsafe_b64encode(STATEMENT.to_bytes()).rstrip(b"=").decode()
    assert st1.read_header(text, header) == st1.write_signed(STATEMENT, SIGNATURES)
    first, last = header.split(", ")
    for wrong in (f"{last}, {first}", f"{first}, {first}", first.upper(), "", f"{first},{last}"):
        with pytest.raises(MalformedEvidence):
            st1.read_header(text, wrong)
    with pytest.raises(MalformedEvidence):
        st1.read_header(text + "=", header)

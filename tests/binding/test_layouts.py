"""What ``report_data`` commits to: all 64 bytes, by one named layout (T02 to T05)."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.binding import LAYOUTS, WORDS, Bound, Process, SigningKey, verify_report_data
from teeverify.errors import BindingMismatch, ConfigurationError, StaleEvidence

NONCE = bytes(range(100, 132))
ADDRESS = bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")  # EIP-55's own example
PUBLIC = bytes(range(40, 72))
SPKI = bytes(range(150, 182))
ACTIONS = bytes(range(200, 232))
HPKE = bytes(range(1, 33))
E2E = base64.b64encode(bytes(range(200)) * 6).decode()[:1580]
GPU_NONCE = bytes(range(70, 102))
GPU_HASH, SWITCH_HASH = bytes(range(33, 65)), bytes(range(66, 98))
POINT = b"\x04" + bytes(range(64))
MATERIAL = b"val" + b"iat"
CLAIMS = b'{"keys":[]}'
ECDSA = SigningKey("ecdsa", ADDRESS)
ED25519 = SigningKey("ed25519", PUBLIC)
VALUES = {
    "nonce": NONCE,
    "key": ECDSA,
    "tls_spki_sha256": SPKI,
    "actions_hash": ACTIONS,
    "hpke_key": HPKE,
    "e2e_public_key": E2E,
    "gpu_nonce": GPU_NONCE,
    "gpu_evidence_sha256": GPU_HASH,
    "nvswitch_evidence_sha256": SWITCH_HASH,
    "public_key": POINT,
    "verifier_nonce": MATERIAL,
    "runtime_claims": CLAIMS,
    "process": Process(address=ADDRESS, tls_spki_sha256=SPKI, config=b"{}"),
}
BOUND = Bound(**VALUES)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


RUNTIME = (
    '{"signing_algo":"ecdsa","signing_address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",'
    f'"caller_nonce":"{NONCE.hex()}","tls_cert_fingerprint":"{SPKI.hex()}"}}'
).encode()
# Flags of secp256k1 and TLS; no Ed25519, no HPKE; the configuration; no devices.
MID = b"\0\5" + ADDRESS + bytes(32) + SPKI + bytes(32) + sha256(b"{}") + bytes(32)
# Built here on their own, byte by byte, as the providers' code builds them.
GOOD = {
    "dstack-padded": ADDRESS + bytes(12) + NONCE,
    "near-tls": sha256(ADDRESS, SPKI) + NONCE,
    "near-compose-manager": ACTIONS + NONCE,
    "near-ita": hashlib.sha512(MATERIAL + RUNTIME).digest(),
    "chutes": sha256(NONCE.hex().encode(), E2E.encode()) + SPKI,
    "tinfoil-v2": SPKI + HPKE,
    "tinfoil-v3": sha256(SPKI, HPKE, NONCE, GPU_HASH, SWITCH_HASH) + bytes(32),
    "secretvm": SPKI + GPU_NONCE,
    "nilcc": b"\0" + SPKI + bytes(31),
    "ascii-address": b"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" + bytes(22),
    "sha256-pubkey": sha256(POINT) + bytes(32),
    "hcl": sha256(CLAIMS) + bytes(32),
    "teeverify/1": sha256(b"teeverify/1 bind", NONCE, MID, bytes(32))
    + b"teeverify/1".ljust(32, b"\0"),
}
GOOD["teeverify/1-vtpm"] = sha256(GOOD["teeverify/1"])
NONCE_AT_THE_END = {"dstack-padded", "near-tls", "near-compose-manager"}
# Table A0: what each layout commits to, and how GPUs beside it are tied.
BINDS = {
    "dstack-padded": ("key nonce", "same-nonce"),
    "near-tls": ("key tls_spki_sha256 nonce", "same-nonce"),
    "near-compose-manager": ("actions_hash nonce", "none"),
    "near-ita": ("verifier_nonce key nonce tls_spki_sha256", "same-nonce"),
    "chutes": ("nonce e2e_public_key tls_spki_sha256", "same-nonce"),
    "tinfoil-v2": ("tls_spki_sha256 hpke_key", "none"),
    "tinfoil-v3": ("tls_spki_sha256 hpke_key nonce gpu_evidence_sha256", "hash-in-quote"),
    "secretvm": ("tls_spki_sha256 gpu_nonce", "same-nonce"),
    "nilcc": ("tls_spki_sha256", "same-nonce"),
    "ascii-address": ("key", "none"),
    "sha256-pubkey": ("public_key", "none"),
    "hcl": ("runtime_claims", "none"),
    "teeverify/1": ("key tls_spki_sha256 nonce process", "mutual"),
    "teeverify/1-vtpm": ("key tls_spki_sha256 nonce process", "mutual"),
}
GPU_NONCES = {
    "dstack-padded": NONCE,
    "near-tls": NONCE,
    "near-ita": sha256(MATERIAL),
    "chutes": GOOD["chutes"][:32],
    "tinfoil-v3": NONCE,
    "secretvm": GPU_NONCE,
    "nilcc": SPKI,
    "teeverify/1": sha256(b"teeverify/1 gpun", NONCE, MID),
    "teeverify/1-vtpm": sha256(b"teeverify/1 gpun", NONCE, MID),
}


def changed(**values):
    return Bound(**{**VALUES, **values})


def test_every_layout_is_here():
    assert set(GOOD) == set(LAYOUTS) == set(BINDS)


@pytest.mark.parametrize("layout", GOOD)
@pytest.mark.parametrize("data", GOOD)
def test_only_the_diagonal_passes(layout, data):
    """No layout is another one's, and none is tried in turn."""
    if layout == data:
        assert verify_report_data(layout, GOOD[data], BOUND).id == layout
        return
    with pytest.raises(BindingMismatch) as caught:
        verify_report_data(layout, GOOD[data], BOUND)
    assert caught.value.id == "binding.report-data"


@pytest.mark.parametrize("layout", GOOD)
def test_each_layout_says_what_it_binds(layout):
    binds, link = BINDS[layout]
    found = LAYOUTS[layout]
    assert (" ".join(found.binds), found.gpu_link) == (binds, link)
    assert set(found.binds) <= set(WORDS)
    assert (found.nonce == "none") is ("nonce" not in found.binds)
    assert (found.nonce == "tail") is (layout in NONCE_AT_THE_END)


@pytest.mark.parametrize("layout", GOOD)
def test_the_nonce_of_the_gpus(layout):
    """GPU evidence is tied by a nonce that follows from what the quote binds, or not at all."""
    assert LAYOUTS[layout].gpu_nonce(BOUND) == GPU_NONCES.get(layout)
    assert (LAYOUTS[layout].gpu_link == "none") is (layout not in GPU_NONCES)


@pytest.mark.parametrize("layout", GOOD)
def test_each_byte_counts(layout):
    for index in range(len(GOOD[layout])):
        for bit in (1, 128):
            data = bytearray(GOOD[layout])
            data[index] ^= bit
            stale = layout in NONCE_AT_THE_END and index >= 32
            with pytest.raises(StaleEvidence if stale else BindingMismatch):
                verify_report_data(layout, bytes(data), BOUND)


@pytest.mark.parametrize("layout", GOOD)
@pytest.mark.parametrize("size", [0, 31, 33, 63, 65, 128])
def test_no_other_length(layout, size):
    data = GOOD[layout].ljust(size, b"\0")[:size]
    with pytest.raises((BindingMismatch, StaleEvidence)):
        verify_report_data(layout, data, BOUND)


@pytest.mark.parametrize("layout", GOOD)
def test_each_value_counts(layout):
    """Another value, one of another size, and none: of everything that the layout binds."""
    for name in LAYOUTS[layout].binds:
        value = VALUES[name]
        others = [None]
        if name == "key":
            others += [SigningKey("ecdsa", bytes(20)), ED25519]
        elif name == "process":
            others += [Process(address=ADDRESS, tls_spki_sha256=SPKI, config=b"{ }")]
        elif isinstance(value, str):
            others += [value[:-1] + "A", value + "=", ""]
        else:
            others += [bytes([value[0] ^ 1]) + value[1:], value[:-1], value + b"\0", b""]
        for other in others:
            with pytest.raises((BindingMismatch, StaleEvidence)):
                verify_report_data(layout, GOOD[layout], changed(**{name: other}))


@pytest.mark.parametrize("layout", GOOD)
def test_nothing_else_counts(layout):
    """What a layout does not bind may be anything: so nobody can think that it was compared."""
    binds = {*LAYOUTS[layout].binds}
    if layout == "tinfoil-v3":
        binds.add("nvswitch_evidence_sha256")
    for name in VALUES.keys() - binds:
        assert verify_report_data(layout, GOOD[layout], changed(**{name: None}))


def test_another_nonce_says_so():
    data = GOOD["near-tls"][:32] + bytes(32)
    with pytest.raises(StaleEvidence) as caught:
        verify_report_data("near-tls", data, BOUND)
    assert (caught.value.id, caught.value.got, caught.value.want) == (
        "freshness.nonce",
        bytes(32).hex(),
        NONCE.hex(),
    )


def test_ed25519_is_bound_whole():
    bound = changed(key=ED25519)
    assert verify_report_data("dstack-padded", PUBLIC + NONCE, bound)
    assert verify_report_data("near-tls", sha256(PUBLIC, SPKI) + NONCE, bound)
    runtime = RUNTIME.replace(b"ecdsa", b"ed25519")
    runtime = runtime.replace(b"0x" + ADDRESS.hex().encode(), PUBLIC.hex().encode())
    assert verify_report_data("near-ita", hashlib.sha512(MATERIAL + runtime).digest(), bound)
    with pytest.raises(BindingMismatch):
        verify_report_data("ascii-address", GOOD["ascii-address"], bound)


def test_a_padded_address_is_no_ed25519_key():
    """T05: both kinds fill the same 32 bytes; one that could be the other is refused."""
    key = SigningKey("ed25519", ADDRESS + bytes(12))
    with pytest.raises(BindingMismatch):
        verify_report_data("dstack-padded", GOOD["dstack-padded"], changed(key=key))


@pytest.mark.parametrize("name", ["", "dstack", "DSTACK-PADDED", "near-tls ", "teeverify/2"])
def test_a_layout_that_does_not_exist(name):
    with pytest.raises(ConfigurationError):
        verify_report_data(name, GOOD["near-tls"], BOUND)


# --- the spellings that are hashed ---------------------------------------------------------------


def test_chutes_hashes_texts_and_not_bytes():
    decoded = base64.b64decode(E2E + "==")
    for data in (
        sha256(NONCE, decoded),
        sha256(NONCE, E2E.encode()),
        sha256(NONCE.hex().encode(), decoded),
        sha256(NONCE.hex().upper().encode(), E2E.encode()),
        sha256(E2E.encode(), NONCE.hex().encode()),
    ):
        with pytest.raises(BindingMismatch):
            verify_report_data("chutes", data + SPKI, BOUND)


def test_ascii_address_is_spelt_by_eip_55():
    for text in (str(ECDSA).lower(), str(ECDSA).upper(), str(ECDSA)[2:]):
        with pytest.raises(BindingMismatch):
            verify_report_data("ascii-address", text.encode().ljust(64, b"\0"), BOUND)


def test_near_itas_runtime_data_has_one_spelling():
    for text in (
        json.dumps(json.loads(RUNTIME)).encode(),
        json.dumps(json.loads(RUNTIME), sort_keys=True, separators=(",", ":")).encode(),
        RUNTIME + b"\n",
    ):
        with pytest.raises(BindingMismatch):
            verify_report_data("near-ita", hashlib.sha512(MATERIAL + text).digest(), BOUND)
    without = RUNTIME.replace(f',"tls_cert_fingerprint":"{SPKI.hex()}"'.encode(), b"")
    data = hashlib.sha512(MATERIAL + without).digest()
    assert verify_report_data("near-ita", data, changed(tls_spki_sha256=None))


def test_tinfoil_v3_leaves_out_only_what_is_not_there():
    alone = sha256(SPKI, HPKE, NONCE) + bytes(32)
    gpus = sha256(SPKI, HPKE, NONCE, GPU_HASH) + bytes(32)
    no_gpus = {"gpu_evidence_sha256": None, "nvswitch_evidence_sha256": None}
    assert verify_report_data("tinfoil-v3", alone, changed(**no_gpus))
    assert verify_report_data("tinfoil-v3", gpus, changed(nvswitch_evidence_sha256=None))
    with pytest.raises(BindingMismatch):  # GPU evidence that the quote does not bind
        verify_report_data("tinfoil-v3", alone, changed(nvswitch_evidence_sha256=None))
    with pytest.raises(BindingMismatch, match="switches without GPUs"):
        verify_report_data("tinfoil-v3", gpus, changed(gpu_evidence_sha256=None))


def test_panda_binds_an_uncompressed_point():
    for point in (b"\x02" + POINT[1:33], POINT[1:], b"\x02" + POINT[1:], POINT + b"\0"):
        with pytest.raises(BindingMismatch):
            verify_report_data(
                "sha256-pubkey", sha256(point) + bytes(32), changed(public_key=point)
            )


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_hcl_in_each_of_its_hashes(name):
    data = hashlib.new(name, CLAIMS).digest().ljust(64, b"\0")
    assert verify_report_data("hcl", data, dataclasses.replace(BOUND, runtime_hash=name))
    with pytest.raises(BindingMismatch):
        verify_report_data("hcl", data, dataclasses.replace(BOUND, runtime_hash="md5"))


keys = st.one_of(
    st.binary(min_size=20, max_size=20).map(lambda raw: SigningKey("ecdsa", raw)),
    st.binary(min_size=32, max_size=32)
    .filter(lambda raw: any(raw[20:]))
    .map(lambda raw: SigningKey("ed25519", raw)),
)
halves = st.binary(min_size=32, max_size=32)
maybe = st.one_of(st.none(), halves)
bounds = st.builds(
    Bound,
    nonce=halves,
    key=keys,
    tls_spki_sha256=halves,
    actions_hash=halves,
    hpke_key=halves,
    e2e_public_key=st.text("ABCDabcd01+/=", min_size=1, max_size=40),
    gpu_nonce=halves,
    gpu_evidence_sha256=halves,
    nvswitch_evidence_sha256=maybe,
    public_key=st.binary(min_size=64, max_size=64).map(lambda raw: b"\x04" + raw),
    runtime_claims=st.binary(min_size=1, max_size=40),
)


@settings(max_examples=100, deadline=None)
@given(bounds, bounds)
def test_distinct_values_give_distinct_bytes(one, other):
    """T04: no boundary between the parts can be moved."""
    for layout in LAYOUTS.values():
        if layout.id in ("near-ita", "ascii-address", "teeverify/1", "teeverify/1-vtpm"):
            # Of one algorithm only, with a nonce of any length before a JSON object, or with parts
            # that have a test of their own (tests/protocol).
            continue
        names = [*layout.binds]
        if layout.id == "tinfoil-v3":
            names.append("nvswitch_evidence_sha256")
        same = all(getattr(one, name) == getattr(other, name) for name in names)
        assert (layout.build(one) == layout.build(other)) == same

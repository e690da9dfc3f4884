"""What ``report_data`` commits to: all 64 bytes, by one named layout (T02 to T05)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.binding import LAYOUTS, Bound, SigningKey, verify_report_data
from teeverify.errors import BindingMismatch, ConfigurationError, StaleEvidence

NONCE = bytes(range(100, 132))
ADDRESS = bytes(range(1, 21))
PUBLIC = bytes(range(40, 72))
SPKI = bytes(range(150, 182))
ACTIONS = bytes(range(200, 232))
ECDSA = SigningKey("ecdsa", ADDRESS)
ED25519 = SigningKey("ed25519", PUBLIC)
BOUND = Bound(nonce=NONCE, key=ECDSA, tls_spki_sha256=SPKI, actions_hash=ACTIONS)
# Built here on their own, byte by byte, as the providers' code builds them.
GOOD = {
    "dstack-padded": ADDRESS + bytes(12) + NONCE,
    "near-tls": hashlib.sha256(ADDRESS + SPKI).digest() + NONCE,
    "near-compose-manager": ACTIONS + NONCE,
}


def test_every_layout_is_here():
    assert set(GOOD) == set(LAYOUTS)


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
def test_each_byte_counts(layout):
    for index in range(64):
        for bit in (1, 128):
            data = bytearray(GOOD[layout])
            data[index] ^= bit
            error = BindingMismatch if index < 32 else StaleEvidence
            with pytest.raises(error):
                verify_report_data(layout, bytes(data), BOUND)


@pytest.mark.parametrize("layout", GOOD)
@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_no_other_length(layout, size):
    data = GOOD[layout].ljust(size, b"\0")[:size]
    with pytest.raises((BindingMismatch, StaleEvidence)):
        verify_report_data(layout, data, BOUND)


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("dstack-padded", {"key": None}),
        ("dstack-padded", {"key": SigningKey("ecdsa", bytes(20))}),
        ("dstack-padded", {"key": ED25519}),
        ("dstack-padded", {"nonce": NONCE[:16] + bytes(16)}),
        ("dstack-padded", {"nonce": NONCE[:31]}),
        ("near-tls", {"key": None}),
        ("near-tls", {"key": ED25519}),
        ("near-tls", {"tls_spki_sha256": None}),
        ("near-tls", {"tls_spki_sha256": ACTIONS}),
        ("near-compose-manager", {"actions_hash": None}),
        ("near-compose-manager", {"actions_hash": SPKI}),
    ],
)
def test_each_value_counts(layout, change):
    values = {"nonce": NONCE, "key": ECDSA, "tls_spki_sha256": SPKI, "actions_hash": ACTIONS}
    with pytest.raises((BindingMismatch, StaleEvidence)):
        verify_report_data(layout, GOOD[layout], Bound(**{**values, **change}))


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
    bound = Bound(nonce=NONCE, key=ED25519, tls_spki_sha256=SPKI)
    assert verify_report_data("dstack-padded", PUBLIC + NONCE, bound)
    assert verify_report_data("near-tls", hashlib.sha256(PUBLIC + SPKI).digest() + NONCE, bound)


def test_a_padded_address_is_no_ed25519_key():
    """T05: both kinds fill the same 32 bytes; one that could be the other is refused."""
    key = SigningKey("ed25519", ADDRESS + bytes(12))
    with pytest.raises(BindingMismatch):
        verify_report_data("dstack-padded", GOOD["dstack-padded"], Bound(nonce=NONCE, key=key))


@pytest.mark.parametrize("name", ["", "dstack", "DSTACK-PADDED", "near-tls ", "teeverify/1"])
def test_a_layout_that_does_not_exist(name):
    with pytest.raises(ConfigurationError):
        verify_report_data(name, GOOD["near-tls"], BOUND)


keys = st.one_of(
    st.binary(min_size=20, max_size=20).map(lambda raw: SigningKey("ecdsa", raw)),
    st.binary(min_size=32, max_size=32)
    .filter(lambda raw: any(raw[20:]))
    .map(lambda raw: SigningKey("ed25519", raw)),
)
halves = st.binary(min_size=32, max_size=32)


@settings(max_examples=200, deadline=None)
@given(st.tuples(keys, halves, halves), st.tuples(keys, halves, halves))
def test_distinct_values_give_distinct_bytes(one, other):
    """T04: no boundary between the parts can be moved."""
    for layout in ("dstack-padded", "near-tls"):
        bound = [Bound(nonce=n, key=k, tls_spki_sha256=s) for k, s, n in (one, other)]
        data = [LAYOUTS[layout].head(each) + each.nonce for each in bound]
        used = [(k, n) if layout == "dstack-padded" else (k, s, n) for k, s, n in (one, other)]
        assert (data[0] == data[1]) == (used[0] == used[1])

"""Signatures under a public key that is known: none is recovered, and as much is refused."""

from __future__ import annotations

import hashlib
import json

import pytest

from teeverify.crypto import ethereum
from teeverify.errors import MalformedEvidence, SignatureInvalid
from teeverify.responses import known_keys, parse_signature, verify_signed_text
from teeverify.simulator.keys import SimulatedKey

TEXT = ":".join(hashlib.sha256(part).hexdigest() for part in (b"request", b"answer"))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture(params=["with coincurve", "without"])
def key(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setitem(__import__("sys").modules, "coincurve", None)
    else:
        pytest.importorskip("coincurve", reason="the extra 'fast' is not installed")
    return SimulatedKey()


def signed(key, *, text=TEXT, change=lambda raw: raw, address=None):
    raw = bytes.fromhex(key.sign(text).removeprefix("0x"))
    answer = {
        "text": text,
        "signature": f"0x{change(raw).hex()}",
        "signing_address": str(address or key.key),
        "signing_algo": "ecdsa",
    }
    return parse_signature(json.dumps(answer).encode())


def test_under_its_own_key(key, monkeypatch):
    answer = signed(key)
    monkeypatch.setattr(ethereum, "_recover_slowly", lambda *parts: pytest.fail("slowly"))
    assert verify_signed_text(answer, known_keys([key.public_bytes])) == key.key


def test_another_key_that_is_known_is_no_help(key):
    other = SimulatedKey()
    keys = known_keys([other.public_bytes])
    assert verify_signed_text(signed(key), keys) == key.key  # recovered
    with pytest.raises(SignatureInvalid):
        verify_signed_text(signed(key, address=other.key), keys)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda raw: raw[:31] + bytes([raw[31] ^ 1]) + raw[32:], SignatureInvalid),
        (lambda raw: raw[:63] + bytes([raw[63] ^ 1]) + raw[64:], SignatureInvalid),
        (lambda raw: bytes(32) + raw[32:], SignatureInvalid),
        (lambda raw: raw[:32] + bytes(32) + raw[64:], SignatureInvalid),
        (lambda raw: raw[:32] + (ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big")
         + raw[64:], SignatureInvalid),
        (lambda raw: ORDER.to_bytes(32, "big") + raw[32:], SignatureInvalid),
        (lambda raw: raw[:64] + bytes([55 - raw[64]]), SignatureInvalid),
        (lambda raw: raw[:64] + b"\x00", MalformedEvidence),
        (lambda raw: raw[:64] + b"\x1d", MalformedEvidence),
    ],
    ids=["r", "s", "r of zero", "s of zero", "s of the upper half", "r of n", "the other v",
         "v of 0", "v of 29"],
)  # fmt: skip
def test_what_is_no_signature_of_it(key, change, error):
    with pytest.raises(error):
        verify_signed_text(signed(key, change=change), known_keys([key.public_bytes]))


def test_another_text(key):
    other = ":".join([TEXT[65:], TEXT[:64]])
    real = signed(key)
    forged = signed(key, text=other, change=lambda raw: real.signature)
    with pytest.raises(SignatureInvalid):
        verify_signed_text(forged, known_keys([key.public_bytes]))


def test_what_is_no_point(key):
    with pytest.raises((SignatureInvalid, MalformedEvidence)):
        ethereum.verify_recoverable(bytes(64), bytes(32), signed(key).signature, id="x")

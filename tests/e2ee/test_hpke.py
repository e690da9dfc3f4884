"""HPKE: RFC 9180's known answers, both sides, and what must not open."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.e2ee import hpke
from teeverify.errors import MalformedEvidence, ResponseNotVerified

PRIVATE = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"
EPHEMERAL = "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
TEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")


def private(text):
    return x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def test_the_rfcs_known_answer():
    """RFC 9180, appendix A.1.1: base mode, X25519, HKDF-SHA256, AES-128-GCM."""
    context = hpke.sender(
        public(private(PRIVATE)), INFO, aead=hpke.AES_128_GCM, ephemeral=private(EPHEMERAL)
    )
    assert context.encapsulated.hex() == (
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    )
    assert context.seal(TEXT, b"Count-0").hex() == (
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    assert context.export(b"", 32).hex() == (
        "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee"
    )


def test_both_sides_agree():
    key = private(PRIVATE)
    sender = hpke.sender(public(key), b"info")
    receiver = hpke.receiver(key, sender.encapsulated, b"info")
    for number in range(3):
        text = b"text %d" % number
        assert receiver.open(sender.seal(text, b"aad"), b"aad") == text
    assert sender.export(b"x", 32) == receiver.export(b"x", 32)
    assert sender.export(b"x", 32) != sender.export(b"y", 32)


def test_what_is_left_out_repeated_or_changed_does_not_open():
    key = private(PRIVATE)
    sender = hpke.sender(public(key), b"info")
    first, second = sender.seal(b"1"), sender.seal(b"2")
    for wrong in (second, bytes(len(first)), first[:-1], first + b"\0"):
        with pytest.raises(ResponseNotVerified):
            hpke.receiver(key, sender.encapsulated, b"info").open(wrong)
    with pytest.raises(ResponseNotVerified):
        hpke.receiver(key, sender.encapsulated, b"other").open(first)
    receiver = hpke.receiver(key, sender.encapsulated, b"info")
    assert receiver.open(first) == b"1"
    with pytest.raises(ResponseNotVerified):
        receiver.open(first)


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), bytes(32), bytes([1]) + bytes(31)])
def test_what_is_no_key(wrong):
    with pytest.raises(MalformedEvidence):
        hpke.sender(wrong, b"info")
    with pytest.raises(MalformedEvidence):
        hpke.receiver(private(PRIVATE), wrong, b"info")

"""The spelling of signing keys."""

from __future__ import annotations

import pytest

from teeverify.binding import SigningKey
from teeverify.errors import MalformedEvidence

ADDRESS = "0x6525e128AFcFfEBf7EED05d485D7Be983cDaE934"
PUBLIC = "d0aa20" + "5b" * 29


def parse(algorithm, text):
    return SigningKey.parse(algorithm, text, id="report", field="report.signing_address")


def malformed(algorithm, text):
    with pytest.raises(MalformedEvidence) as caught:
        parse(algorithm, text)
    assert caught.value.field == "report.signing_address"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        ADDRESS[:-1],
        ADDRESS[:-2],
        ADDRESS + "00",
        "0X" + ADDRESS[2:],
        "0x0x" + ADDRESS[2:],
        " " + ADDRESS,
        ADDRESS + "\n",
        ADDRESS.replace("6", "\uff16"),
        ADDRESS.replace("A", "\u0410"),
        PUBLIC,
        "0x" + PUBLIC,
        None,
        5,
        bytes(20),
    ],
)
def test_no_address(text):
    malformed("ecdsa", text)


@pytest.mark.parametrize("text", ["", PUBLIC[:-2], PUBLIC + "00", "0x" + PUBLIC, ADDRESS, None])
def test_no_ed25519_key(text):
    malformed("ed25519", text)


@pytest.mark.parametrize(
    "name", ["", "ECDSA", "ecdsa-p256", "rsa", "secp256k1", None, 1, ["ecdsa"]]
)
def test_no_algorithm(name):
    malformed(name, ADDRESS)


def test_addresses_are_compared_as_bytes():
    spellings = {ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper(), ADDRESS[2:]}
    assert {parse("ecdsa", text) for text in spellings} == {parse("ecdsa", ADDRESS)}
    assert str(parse("ecdsa", ADDRESS.lower())) == ADDRESS
    assert parse("ecdsa", ADDRESS).short == "0x6525…E934"


def test_keys_of_two_kinds_are_never_equal():
    raw = bytes.fromhex(PUBLIC)
    assert SigningKey("ed25519", raw) != SigningKey("ecdsa", raw)
    assert str(parse("ed25519", PUBLIC.upper())) == PUBLIC

"""EHBP: the known answers of its authors, both directions, and every way to spoil an answer."""

from __future__ import annotations

import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.e2ee import ehbp, hpke
from teeverify.errors import MalformedEvidence, ResponseNotVerified

NONCE = bytes(range(32))
HEADERS = {"Ehbp-Response-Nonce": NONCE.hex()}


@pytest.fixture
def enclave():
    return x25519.X25519PrivateKey.generate()


@pytest.fixture
def sealed(enclave):
    public = enclave.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return ehbp.seal_body(public, b'{"model": "m"}')


def answer(sealed, *texts):
    key, base = ehbp.derive(sealed.secret, sealed.encapsulated, NONCE)
    frames = []
    for number, text in enumerate(texts):
        nonce = (int.from_bytes(base, "big") ^ number).to_bytes(12, "big")
        frame = AESGCM(key).encrypt(nonce, text, b"")
        frames.append(len(frame).to_bytes(4, "big") + frame)
    return frames


def test_the_enclave_reads_the_request(enclave, sealed):
    context = hpke.receiver(
        enclave, bytes.fromhex(sealed.headers["Ehbp-Encapsulated-Key"]), b"ehbp request"
    )
    length = int.from_bytes(sealed.body[:4], "big")
    assert context.open(sealed.body[4 : 4 + length]) == b'{"model": "m"}'
    assert len(sealed.body) == 4 + length
    assert context.export(b"ehbp response", 32) == sealed.secret


def test_an_answer_opens_however_it_is_cut(sealed):
    body = b"".join(answer(sealed, b"Hello, ", b"", b"world"))
    for size in (1, 2, 3, 7, 50, len(body)):
        opener = sealed.opener(HEADERS)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert b"".join(opener.feed(piece) for piece in pieces) == b"Hello, world"
        opener.finish()


def test_a_plain_answer_is_refused(sealed):
    with pytest.raises(ResponseNotVerified) as caught:
        sealed.opener({"Content-Type": "application/json"})
    assert caught.value.id == "e2ee.plaintext"


@pytest.mark.parametrize("nonce", ["", "00" * 31, "00" * 33, "zz" * 32])
def test_what_is_no_nonce(sealed, nonce):
    with pytest.raises(ResponseNotVerified):
        sealed.opener({"ehbp-response-nonce": nonce})


def test_spoiled_answers(sealed):
    first, second, third = answer(sealed, b"1", b"2", b"3")
    other = ehbp.seal_body(x25519.X25519PrivateKey.generate().public_key().public_bytes(
        Encoding.Raw, PublicFormat.Raw), b"")  # fmt: skip
    spoiled = [
        second + first, first + third, first + first, *answer(other, b"1"),
        first[:-1] + bytes([first[-1] ^ 1]), bytes(4), b"\xff\xff\xff\xff", b"\x00\x00\x00\x0f" * 9,
    ]  # fmt: skip
    for body in spoiled:
        opener = sealed.opener(HEADERS)
        with pytest.raises(ResponseNotVerified) as caught:
            opener.feed(body)
        assert caught.value.id == "e2ee.open"


def test_a_cut_frame(sealed):
    body = b"".join(answer(sealed, b"text"))
    for end in range(1, len(body)):
        opener = sealed.opener(HEADERS)
        opener.feed(body[:end])
        with pytest.raises(ResponseNotVerified):
            opener.finish()


def test_no_key_of_an_enclave():
    with pytest.raises(MalformedEvidence):
        ehbp.seal_body(os.urandom(31), b"")


@pytest.mark.vectors
def test_the_authors_known_answers(vectors):
    derive = json.loads((vectors / "endpoints/ehbp/derive.json").read_text())
    values = {name: bytes.fromhex(text) for name, text in derive.items()}
    found = ehbp.derive(values["exportedSecret"], values["requestEnc"], values["responseNonce"])
    assert found == (values["derivedKey"], values["derivedNonceBase"])
    document = json.loads((vectors / "endpoints/ehbp/response-decryption.json").read_text())
    values = {name: bytes.fromhex(text) for name, text in document.items()}
    sealed = ehbp.SealedBody(
        body=b"", headers={}, secret=values["exportedSecret"], encapsulated=values["requestEnc"]
    )
    opener = sealed.opener({"ehbp-response-nonce": document["responseNonce"]})
    assert opener.feed(values["encryptedResponse"]) == values["plaintext"]
    opener.finish()

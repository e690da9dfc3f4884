"""Calls under ML-KEM-768: an instance's side is played here."""

from __future__ import annotations

import base64
import gzip
import json
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from teeverify.e2ee.chutes import seal_call
from teeverify.errors import MalformedEvidence, ResponseNotVerified

mlkem = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.mlkem", reason="this cryptography has no ML-KEM"
)
NONCE = bytes(12)


def cipher(shared, ciphertext, info):
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=ciphertext[:16], info=info)
    return ChaCha20Poly1305(kdf.derive(shared))


@pytest.fixture
def instance():
    try:
        return mlkem.MLKEM768PrivateKey.generate()
    except Exception:  # noqa: BLE001 -- an OpenSSL without it
        pytest.skip("this OpenSSL has no ML-KEM")


@pytest.fixture
def call(instance):
    return seal_call(instance.public_key().public_bytes_raw(), {"model": "m", "prompt": "secret"})


def read(instance, body):
    shared = instance.decapsulate(body[:1088])
    packed = cipher(shared, body[:1088], b"e2e-req-v1").decrypt(body[1088:1100], body[1100:], None)
    return json.loads(gzip.decompress(packed))


@pytest.fixture
def asker(instance, call):
    key = base64.b64decode(read(instance, call.body)["e2e_response_pk"])
    return mlkem.MLKEM768PublicKey.from_public_bytes(key)


def answer(asker, text, *, info=b"e2e-resp-v1", pack=gzip.compress):
    shared, ciphertext = asker.encapsulate()
    return ciphertext + NONCE + cipher(shared, ciphertext, info).encrypt(NONCE, pack(text), None)


class Stream:
    def __init__(self, asker):
        shared, ciphertext = asker.encapsulate()
        self.cipher = cipher(shared, ciphertext, b"e2e-stream-v1")
        self.init = event(e2e_init=base64.b64encode(ciphertext).decode())

    def part(self, text):
        nonce = os.urandom(12)
        sealed = nonce + self.cipher.encrypt(nonce, text, None)
        return event(e2e=base64.b64encode(sealed).decode())


def event(**members):
    return b"data: " + json.dumps(members).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_only_the_instance_reads_the_call(instance, call):
    assert b"secret" not in call.body
    assert read(instance, call.body)["prompt"] == "secret"


def test_an_answer_opens(call, asker):
    assert call.open(answer(asker, b'{"x": 1}')) == b'{"x": 1}'


def test_spoiled_answers(instance, call, asker):
    good = answer(asker, b"{}")
    other = seal_call(instance.public_key().public_bytes_raw(), {})
    for body in (
        b"", good[:-1], good + b"\0", bytes([good[0] ^ 1]) + good[1:], good[:1088],
        answer(asker, b"{}", info=b"e2e-stream-v1"), answer(asker, b"{}", pack=bytes),
        b'{"choices": []}',
    ):  # fmt: skip
        with pytest.raises(ResponseNotVerified) as caught:
            call.open(body)
        assert caught.value.id == "e2ee.open"
    with pytest.raises(ResponseNotVerified):
        other.open(good)


@pytest.mark.parametrize("size", [1, 7, 500, 100_000])
def test_a_stream_opens_however_it_is_cut(call, asker, size):
    stream = Stream(asker)
    body = stream.init + stream.part(b"data: a\n\n") + event(usage={}) + stream.part(DONE) + DONE
    opener = call.opener()
    out = b"".join(opener.feed(body[at : at + size]) for at in range(0, len(body), size))
    opener.finish()
    assert out == b"data: a\n\n" + DONE


def test_only_an_encrypted_end_ends_a_stream(call, asker):
    stream = Stream(asker)
    opener = call.opener()
    opener.feed(stream.init + stream.part(b"data: a\n\n") + DONE)
    with pytest.raises(ResponseNotVerified, match="broke off"):
        opener.finish()


def test_spoiled_streams(call, asker):
    stream, other = Stream(asker), Stream(asker)
    part, done = stream.part(b"a"), stream.part(DONE)
    for body in (
        part, stream.init + stream.init, stream.init + other.part(b"a"),
        stream.init + done + part, stream.init + event(choices=[]), event(e2e_init="x"),
        stream.init + event(e2e="AAAA"), b"data: {\n\n", b"data: []\n\n", b"event: x\n\n",
        event(e2e_error="no"), event(e2e_init="AAAA"), stream.init + event(e2e=1),
    ):  # fmt: skip
        opener = call.opener()
        with pytest.raises(ResponseNotVerified):
            opener.feed(body)


@pytest.mark.parametrize("public", [b"", bytes(1183), bytes(1185), b"\xff" * 1184])
def test_what_is_no_key(instance, public):
    with pytest.raises(MalformedEvidence) as caught:
        seal_call(public, {})
    assert caught.value.id == "e2ee.key"


def test_a_small_answer_that_unpacks_to_a_large_one(call, asker):
    with pytest.raises(ResponseNotVerified, match="too large"):
        call.open(answer(asker, bytes(65 * 2**20)))

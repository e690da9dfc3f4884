"""Each box: known answers, both directions, and everything that must not open."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.e2ee import boxes
from teeverify.e2ee.boxes import EciesSecp256k1, NaclXChaCha, X25519AesGcm, X25519XChaCha, hchacha20
from teeverify.errors import ConfigurationError, MalformedEvidence, ResponseNotVerified

BOXES = [EciesSecp256k1(), X25519AesGcm(), X25519XChaCha(), NaclXChaCha()]


@pytest.fixture(params=BOXES, ids=lambda box: type(box).__name__)
def box(request):
    if request.param.algorithm == "ed25519":
        pytest.importorskip("nacl", reason="needs teeverify[e2ee]")
    return request.param


def aad_of(box):
    return b"" if isinstance(box, NaclXChaCha) else b"place"


@pytest.mark.parametrize("text", [b"", b"x", "Grüße 🌍".encode(), bytes(100_000)])
def test_what_is_sealed_opens(box, text):
    key = box.new_key()
    blob = box.seal(key.public, text, aad_of(box))
    assert key.open(blob, aad_of(box)) == text
    assert box.seal(key.public, text, aad_of(box)) != blob


def test_every_byte_counts(box):
    key = box.new_key()
    blob = box.seal(key.public, b"text", aad_of(box))
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1
        with pytest.raises(ResponseNotVerified) as caught:
            key.open(bytes(changed), aad_of(box))
        assert caught.value.id == "e2ee.open"


def test_every_length_but_its_own_is_refused(box):
    key = box.new_key()
    blob = box.seal(key.public, b"", aad_of(box))
    for length in range(len(blob)):
        with pytest.raises(ResponseNotVerified):
            key.open(blob[:length], aad_of(box))


def test_another_key_does_not_open(box):
    key = box.new_key()
    blob = box.seal(key.public, b"text", aad_of(box))
    with pytest.raises(ResponseNotVerified):
        box.new_key().open(blob, aad_of(box))


def test_another_place_does_not_open(box):
    key = box.new_key()
    if isinstance(box, NaclXChaCha):
        with pytest.raises(ConfigurationError):
            box.seal(key.public, b"text", b"place")
        return
    blob = box.seal(key.public, b"text", b"place")
    with pytest.raises(ResponseNotVerified):
        key.open(blob, b"other")


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(64), bytes(66), b"\x02" * 33])
def test_what_is_no_key(box, public):
    with pytest.raises(MalformedEvidence) as caught:
        box.seal(public, b"text", aad_of(box))
    assert caught.value.id == "e2ee.key"


def test_keys_that_give_everybody_the_same_secret():
    pytest.importorskip("nacl", reason="needs teeverify[e2ee]")
    # y = 1 and y = -1, points of order 1 and 2 (RFC 7748, section 7).
    for low in (bytes([1]) + bytes(31), (2**255 - 20).to_bytes(32, "little")):
        with pytest.raises(MalformedEvidence):
            X25519AesGcm().seal(low, b"text", b"")
    key = X25519XChaCha().new_key()
    with pytest.raises(ResponseNotVerified):
        key.open(bytes(32) + bytes(24) + bytes(32), b"")


def test_a_point_off_the_curve():
    with pytest.raises(MalformedEvidence):
        EciesSecp256k1().seal(b"\x01" * 64, b"text", b"")


def test_hchacha20_known_answer():
    """draft-irtf-cfrg-xchacha-03, section 2.2.1."""
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert hchacha20(bytes(range(32)), nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


def test_xchacha_agrees_with_libsodium():
    bindings = pytest.importorskip("nacl.bindings", reason="needs teeverify[e2ee]")
    box, shared, nonce = X25519XChaCha(), bytes(range(32)), bytes(range(24))
    ours = box.encrypt(shared, nonce, b"text", b"aad")
    key = boxes._derive(shared, b"ed25519_encryption")
    theirs = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(b"text", b"aad", nonce, key)
    assert ours == theirs


def test_the_key_of_an_answer_is_the_ed25519_key_of_the_header():
    bindings = pytest.importorskip("nacl.bindings", reason="needs teeverify[e2ee]")
    key = X25519AesGcm().new_key()
    mapped = bindings.crypto_sign_ed25519_pk_to_curve25519(key.public)
    raw = key._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert mapped == raw


def _from_seed(algorithm, seed):
    """A key of the known answers, which the boxes themselves never make."""
    if algorithm == "ecdsa":
        key = object.__new__(boxes._Secp256k1Key)
        key._key = ec.derive_private_key(int.from_bytes(seed, "big"), ec.SECP256K1())
        return key
    key = object.__new__(boxes._Ed25519Key)
    scalar = hashlib.sha512(seed).digest()[:32]
    key._key = x25519.X25519PrivateKey.from_private_bytes(scalar)
    key._box = X25519XChaCha()
    return key


@pytest.mark.vectors
def test_near_known_answers(vectors):
    document = json.loads((vectors / "endpoints/nearai-e2ee/e2ee-python.json").read_text())
    for case in document["cases"]:
        key = _from_seed(case["algorithm"], bytes.fromhex(case["private_seed"]))
        blob = bytes.fromhex(case["ciphertext"])
        assert key.open(blob, b"").decode() == case["plaintext"]
        if case["algorithm"] == "ed25519":
            for other in (X25519AesGcm(), NaclXChaCha()):  # same header names, other boxes
                key._box = other
                with pytest.raises(ResponseNotVerified):
                    key.open(blob, b"")

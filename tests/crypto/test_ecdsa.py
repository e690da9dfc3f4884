"""ECDSA on the two curves, in both encodings, each in its only form."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from teeverify.crypto.ecdsa import p256_key, verify_der, verify_raw
from teeverify.errors import MalformedEvidence, SignatureInvalid
from teeverify.simulator.authority import new_key, sign_raw

NAMES = {"id": "test.signature", "what": "quote"}
MESSAGE = b"what was signed"
ORDERS = {
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "p384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,  # noqa: E501
}
CURVES = list(ORDERS)
KEYS = {curve: new_key(curve) for curve in CURVES}


def refused(verify, key, signature, message=MESSAGE):
    with pytest.raises(SignatureInvalid) as caught:
        verify(key, signature, message, **NAMES)
    assert caught.value.id == "test.signature"
    assert "quote" in caught.value.message
    return caught.value


def pair_of(key):
    raw = sign_raw(key, MESSAGE)
    size = len(raw) // 2
    return int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"), size


def raw_of(r, s, size):
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@pytest.mark.parametrize("curve", CURVES)
class TestBoth:
    def test_genuine(self, curve):
        key = KEYS[curve]
        r, s, size = pair_of(key)
        verify_raw(key.public_key(), raw_of(r, s, size), MESSAGE, **NAMES)
        verify_der(key.public_key(), encode_dss_signature(r, s), MESSAGE, **NAMES)

    def test_upper_half_of_s_is_allowed(self, curve):
        key = KEYS[curve]
        r, s, size = pair_of(key)
        other = ORDERS[curve] - s
        verify_raw(key.public_key(), raw_of(r, other, size), MESSAGE, **NAMES)
        verify_der(key.public_key(), encode_dss_signature(r, other), MESSAGE, **NAMES)

    def test_another_message_or_key(self, curve):
        key, other = KEYS[curve], new_key(curve)
        r, s, size = pair_of(key)
        for verify, signature in (
            (verify_raw, raw_of(r, s, size)),
            (verify_der, encode_dss_signature(r, s)),
        ):
            refused(verify, key.public_key(), signature, MESSAGE + b"\0")
            refused(verify, key.public_key(), signature, b"")
            error = refused(verify, other.public_key(), signature)
            assert "key sha256:" in error.want

    def test_another_hash(self, curve):
        key = KEYS[curve]
        for digest in (hashes.SHA512(), hashes.SHA384() if curve == "p256" else hashes.SHA256()):
            refused(verify_raw, key.public_key(), sign_raw(key, MESSAGE, hash_algorithm=digest))

    def test_numbers_out_of_range(self, curve):
        key, order = KEYS[curve].public_key(), ORDERS[curve]
        r, s, size = pair_of(KEYS[curve])
        top = 2 ** (8 * size) - 1
        for one, two in (
            (0, s),
            (r, 0),
            (0, 0),
            (order, s),
            (r, order),
            (top, s),
            (r, top),
            (order, order),
        ):
            refused(verify_raw, key, raw_of(one, two, size))
            refused(verify_der, key, encode_dss_signature(one, two))
        for one, two in ((-r, s), (r, -s), (r + order, s), (r, s + order)):
            refused(verify_der, key, der_pair(one, two))

    def test_lengths(self, curve):
        key = KEYS[curve].public_key()
        r, s, size = pair_of(KEYS[curve])
        raw = raw_of(r, s, size)
        between = raw[:size] + b"\0" + raw[size:]
        for signature in (b"", raw[:-1], raw + b"\0", b"\0" + raw, raw * 2, raw[:size], between):
            refused(verify_raw, key, signature)
        refused(verify_raw, key, encode_dss_signature(r, s))
        refused(verify_der, key, raw)

    def test_der_forms(self, curve):
        key = KEYS[curve].public_key()
        r, s, _ = pair_of(KEYS[curve])
        der = encode_dss_signature(r, s)
        body = der[2:]
        for signature in (
            b"",
            der + b"\0",
            der[:-1],
            b"\x30\x81" + der[1:],
            b"\x30\x80" + body + b"\0\0",
            b"\x31" + der[1:],
            der_pair(r, s, pad=True),
            b"\x30" + bytes([len(body) + 2]) + body + b"\x05\0",
        ):
            refused(verify_der, key, signature)


def der_pair(r, s, *, pad=False):
    def integer(value):
        body = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        body = b"\0" + body if pad else body
        return bytes([2, len(body)]) + body

    contents = integer(r) + integer(s)
    header = [0x30, len(contents)] if len(contents) < 0x80 else [0x30, 0x81, len(contents)]
    return bytes(header) + contents


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        new_key("rsa"),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p521", "secp256k1", "rsa", "ed25519"],
)
def test_other_keys(key):
    for verify in (verify_raw, verify_der):
        for size in (64, 96, 132, 256):
            error = refused(verify, key.public_key(), bytes(size))
            assert "P-384" in error.want


def test_a_signature_of_one_curve_is_none_of_the_other():
    refused(verify_raw, KEYS["p256"].public_key(), sign_raw(KEYS["p384"], MESSAGE))
    refused(verify_raw, KEYS["p384"].public_key(), sign_raw(KEYS["p256"], MESSAGE))


class TestP256Key:
    def test_genuine(self):
        public = KEYS["p256"].public_key()
        xy = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        assert p256_key(xy, **NAMES) == public

    @pytest.mark.parametrize(
        "xy", [b"", bytes(63), bytes(65), bytes(64), b"\xff" * 64, b"\x01" * 64]
    )
    def test_no_point(self, xy):
        with pytest.raises(MalformedEvidence) as caught:
            p256_key(xy, **NAMES)
        assert caught.value.field == "quote"


@given(signature=st.binary(max_size=110), curve=st.sampled_from(CURVES))
def test_any_signature(signature, curve):
    for verify in (verify_raw, verify_der):
        refused(verify, KEYS[curve].public_key(), signature)


def test_decoding_agrees_with_the_library():
    r, s, size = pair_of(KEYS["p256"])
    assert decode_dss_signature(encode_dss_signature(r, s)) == (r, s)
    assert size == 32

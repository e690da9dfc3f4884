"""Ed25519, and the keys under which anybody can sign."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from teeverify.crypto import ed25519
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.errors import MalformedEvidence, SignatureInvalid, TeeVerifyError

NAMES = {"id": "test.ed25519", "what": "answer"}
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
MESSAGE = b"an answer"
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def refused(kind, public=PUBLIC, signature=None, message=MESSAGE):
    with pytest.raises(kind) as caught:
        verify_ed25519(
            public, KEY.sign(MESSAGE) if signature is None else signature, message, **NAMES
        )
    assert caught.value.id == "test.ed25519"


def test_genuine():
    verify_ed25519(PUBLIC, KEY.sign(MESSAGE), MESSAGE, **NAMES)
    verify_ed25519(PUBLIC, KEY.sign(b""), b"", **NAMES)


def test_rfc_8032_first_test():
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    verify_ed25519(public, signature, b"", **NAMES)


def test_wrong():
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    refused(SignatureInvalid, public=other)
    refused(SignatureInvalid, message=MESSAGE + b"\0")
    refused(SignatureInvalid, signature=bytes(64))


def test_lengths():
    for size in (0, 31, 33, 64):
        refused(MalformedEvidence, public=(PUBLIC * 2)[:size])
    for size in (0, 63, 65, 128):
        refused(MalformedEvidence, signature=bytes(size))


def test_second_form_of_a_signature():
    signature = KEY.sign(MESSAGE)
    s = int.from_bytes(signature[32:], "little") + L
    refused(SignatureInvalid, signature=signature[:32] + s.to_bytes(32, "little"))


def test_key_that_is_no_point():
    odd = next(
        y.to_bytes(32, "little")
        for y in range(2, 50)
        if pow((y * y - 1) * pow(D * y * y + 1, -1, P), (P - 1) // 2, P) == P - 1
    )
    refused(SignatureInvalid, public=odd)


D = -121665 * pow(121666, -1, P) % P


def add(one, other):
    """The addition of RFC 8032 section 5.1.4 in affine coordinates."""
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def small_order_ys():
    """Every y whose point, doubled three times, is the neutral one; found, not written down."""
    found = set()
    for y in ed25519._SMALL_ORDER:
        x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(x2, (P + 3) // 8, P)
        if x * x % P != x2:
            x = x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == x2
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        if point == (0, 1):
            found.add(y)
    return found


def test_the_table_of_small_orders_is_right():
    """8 points have an order that divides 8; they have 5 different y."""
    assert small_order_ys() == ed25519._SMALL_ORDER
    assert len(ed25519._SMALL_ORDER) == 5


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", sorted(ed25519._SMALL_ORDER))
def test_keys_under_which_anybody_can_sign(y, sign):
    public = (y | sign << 255).to_bytes(32, "little")
    refused(MalformedEvidence, public=public)
    # The signature that verifies under the neutral key for every message.
    refused(MalformedEvidence, public=public, signature=(1).to_bytes(32, "little") + bytes(32))


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1])
def test_keys_that_are_not_canonical(y):
    refused(MalformedEvidence, public=y.to_bytes(32, "little"))


@given(public=st.binary(max_size=40), signature=st.binary(max_size=70))
def test_any_bytes(public, signature):
    with pytest.raises(TeeVerifyError):
        verify_ed25519(public, signature, MESSAGE, **NAMES)

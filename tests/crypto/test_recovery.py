"""Which of two points a signature stands for: two ways to tell, which must agree."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from teeverify.crypto.recovery import ORDER, has_parity, recovery_parity


def signed(number):
    key = ec.derive_private_key(number + 1, ec.SECP256K1())
    digest = hashlib.sha256(bytes([number])).digest()
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    return key.public_key(), digest, r, min(s, ORDER - s)


@pytest.mark.parametrize("number", range(40))
def test_both_ways_agree(number):
    key, digest, r, s = signed(number)
    parity = recovery_parity(key, digest, r, s)
    assert parity in {0, 1}
    assert has_parity(key, digest, r, s, parity)
    assert not has_parity(key, digest, r, s, 1 - parity)


@pytest.mark.parametrize("number", range(10))
def test_the_other_s_stands_for_the_other_point(number):
    key, digest, r, s = signed(number)
    parity = recovery_parity(key, digest, r, s)
    assert has_parity(key, digest, r, ORDER - s, 1 - parity)
    assert not has_parity(key, digest, r, ORDER - s, parity)


@pytest.mark.parametrize("number", range(10))
def test_another_key_another_digest_another_signature(number):
    key, digest, r, s = signed(number)
    other, theirs, other_r, other_s = signed(number + 100)
    for parity in (0, 1):
        assert not has_parity(other, digest, r, s, parity)
        assert not has_parity(key, theirs, r, s, parity)
        assert not has_parity(key, digest, other_r, s, parity)
        assert not has_parity(key, digest, r, other_s, parity)


def test_an_x_without_a_point():
    key, digest, _, s = signed(1)
    assert not any(has_parity(key, digest, 5, s, parity) for parity in (0, 1))


def test_a_digest_of_zeros():
    key = ec.derive_private_key(7, ec.SECP256K1())
    raw = key.sign(bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))
    r, s = decode_dss_signature(raw)
    found = [has_parity(key.public_key(), bytes(32), r, s, parity) for parity in (0, 1)]
    # u1 is 0, so R is a multiple of Q: one of the two gives Q, the other -Q, which has the same x.
    assert any(found)

"""Keccak-256, addresses, EIP-191 and recovery, with and without the fast libraries."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.crypto import keccak
from teeverify.crypto.ethereum import (
    address_of,
    checksum_address,
    eip191_digest,
    keccak256,
    recover_address,
    recover_public_key,
    verify_digest,
)
from teeverify.errors import MalformedEvidence, SignatureInvalid, TeeVerifyError

ID = {"id": "test.recover"}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = ec.generate_private_key(ec.SECP256K1())


def point(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def pair(key, digest, *, low=True):
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    s = min(s, ORDER - s) if low else max(s, ORDER - s)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.fixture(params=["fast", "slow"])
def library(request, monkeypatch):
    """Both ways to recover: with libsecp256k1, and with the library that is always there."""
    if request.param == "fast":
        pytest.importorskip("coincurve")
    else:
        monkeypatch.setitem(sys.modules, "coincurve", None)
    return request.param


class TestKeccak:
    KNOWN = (
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (
            b"The quick brown fox jumps over the lazy dog",
            "4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15",
        ),
        (b"Transfer(address,address,uint256)",
         "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
    )  # fmt: skip

    @pytest.mark.parametrize(("data", "digest"), KNOWN)
    def test_known_answers(self, data, digest, monkeypatch):
        assert keccak256(data).hex() == digest
        monkeypatch.setitem(sys.modules, "sha3", None)
        assert keccak256(data).hex() == digest

    def test_constants(self):
        """The first and last constants of the published table."""
        assert keccak._ROUND_CONSTANTS[0] == 1
        assert keccak._ROUND_CONSTANTS[1] == 0x8082
        assert keccak._ROUND_CONSTANTS[23] == 0x8000000080008008

    def test_agrees_with_the_fast_library_at_every_block_edge(self):
        sha3 = pytest.importorskip("sha3")
        for size in [*range(140), 271, 272, 273, 1000]:
            data = bytes(i * 7 % 256 for i in range(size))
            assert keccak._keccak256(data) == sha3.keccak_256(data).digest()

    def test_is_not_the_later_standard(self):
        import hashlib

        assert keccak256(b"") != hashlib.sha3_256(b"").digest()


class TestAddresses:
    # EIP-55's own examples.
    @pytest.mark.parametrize(
        "text",
        [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0xde709f2102306220921060314715629080e2fb77",
        ],
    )
    def test_checksum(self, text):
        assert checksum_address(bytes.fromhex(text[2:])) == text

    def test_address_of_the_key_one(self):
        one = ec.derive_private_key(1, ec.SECP256K1())
        assert checksum_address(address_of(point(one))) == (
            "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
        )

    @pytest.mark.parametrize("size", [0, 19, 21, 32, 63, 65])
    def test_lengths(self, size):
        with pytest.raises(MalformedEvidence):
            checksum_address(bytes(size))
        with pytest.raises(MalformedEvidence):
            address_of(bytes(size))

    def test_eip191(self):
        assert eip191_digest(b"hello") == keccak256(b"\x19Ethereum Signed Message:\n5hello")
        assert eip191_digest("ü".encode()) == keccak256(b"\x19Ethereum Signed Message:\n2\xc3\xbc")


class TestRecover:
    DIGEST = keccak256(b"an answer")

    def signature(self, key=KEY, digest=DIGEST):
        """The one 65-byte form that recovers the key."""
        rs = pair(key, digest)
        two = [rs + bytes([v]) for v in (27, 28)]
        return next(s for s in two if recover_public_key(digest, s, **ID) == point(key))

    def refused(self, kind, signature, digest=DIGEST):
        with pytest.raises(kind) as caught:
            recover_address(digest, signature, **ID)
        assert caught.value.id == "test.recover"
        return caught.value

    def test_genuine(self, library):
        for _ in range(4 if library == "slow" else 32):
            key = ec.generate_private_key(ec.SECP256K1())
            signature = self.signature(key)
            assert recover_address(self.DIGEST, signature, **ID) == address_of(point(key))
            verify_digest(point(key), self.DIGEST, signature[:64], **ID)

    def test_other_v_is_another_key(self, library):
        signature = self.signature()
        other = signature[:64] + bytes([55 - signature[64]])
        assert recover_address(self.DIGEST, other, **ID) != address_of(point(KEY))

    def test_other_digest_is_another_key(self, library):
        address = recover_address(keccak256(b"another"), self.signature(), **ID)
        assert address != address_of(point(KEY))

    @pytest.mark.parametrize("v", [0, 1, 2, 3, 26, 29, 30, 31, 35, 255])
    def test_other_v(self, v):
        error = self.refused(MalformedEvidence, self.signature()[:64] + bytes([v]))
        assert error.got == str(v)

    @pytest.mark.parametrize("size", [0, 1, 64, 66, 130])
    def test_lengths(self, size):
        self.refused(MalformedEvidence, b"\x1b" * size)

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_digest_lengths(self, size):
        self.refused(MalformedEvidence, self.signature(), bytes(size))
        with pytest.raises(MalformedEvidence):
            verify_digest(point(KEY), bytes(size), self.signature()[:64], **ID)

    def test_upper_half_of_s(self, library):
        v = self.signature()[64]
        high = pair(KEY, self.DIGEST, low=False)
        for last in (v, 55 - v):
            assert "upper half" in self.refused(SignatureInvalid, high + bytes([last])).got
        with pytest.raises(SignatureInvalid):
            verify_digest(point(KEY), self.DIGEST, high, **ID)

    def test_edge_of_the_lower_half(self):
        half = ORDER // 2
        r = self.signature()[:32]
        recover_address(self.DIGEST, r + half.to_bytes(32, "big") + b"\x1b", **ID)
        self.refused(SignatureInvalid, r + (half + 1).to_bytes(32, "big") + b"\x1b")

    @pytest.mark.parametrize("value", [0, ORDER, ORDER + 1, 2**256 - 1])
    def test_out_of_range(self, value):
        signature, odd = self.signature(), value.to_bytes(32, "big")
        self.refused(SignatureInvalid, odd + signature[32:])
        self.refused(SignatureInvalid, signature[:32] + odd + signature[64:])

    def test_r_that_is_no_coordinate(self, library):
        """5 is no x of a point: 5**3 + 7 = 132 has no square root in the field."""
        error = self.refused(SignatureInvalid, (5).to_bytes(32, "big") + self.signature()[32:])
        assert "coordinate" in error.got

    def test_key_at_infinity(self, library):
        """With R = G and s = digest, the recovered key would be no point."""
        x = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
        digest = (1234567).to_bytes(32, "big")
        error = self.refused(SignatureInvalid, x.to_bytes(32, "big") + digest + b"\x1b", digest)
        assert error.got == "no key made it"

    @settings(max_examples=30)
    @given(
        r=st.integers(0, 2**256 - 1),
        s=st.integers(0, ORDER // 2),
        v=st.sampled_from([27, 28]),
        digest=st.binary(min_size=32, max_size=32),
    )
    def test_any_numbers(self, r, s, v, digest):
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])
        try:
            key = recover_public_key(digest, signature, **ID)
        except TeeVerifyError:
            return
        verify_digest(key, digest, signature[:64], **ID)

    def test_both_libraries_agree(self, monkeypatch):
        pytest.importorskip("coincurve")
        signatures = [pair(KEY, self.DIGEST) + bytes([v]) for v in (27, 28) for _ in range(3)]
        fast = [recover_address(self.DIGEST, s, **ID) for s in signatures]
        monkeypatch.setitem(sys.modules, "coincurve", None)
        assert [recover_address(self.DIGEST, s, **ID) for s in signatures] == fast

    def test_agrees_with_wallets(self):
        eth_account = pytest.importorskip("eth_account")
        from eth_account.messages import encode_defunct

        account = eth_account.Account.create()
        text = "request:response"
        signed = account.sign_message(encode_defunct(text=text))
        address = recover_address(eip191_digest(text.encode()), bytes(signed.signature), **ID)
        assert checksum_address(address) == account.address


class TestVerifyDigest:
    DIGEST = keccak256(b"an answer")

    def refused(self, kind, key=None, digest=DIGEST, signature=None):
        with pytest.raises(kind):
            verify_digest(
                point(KEY) if key is None else key,
                digest,
                pair(KEY, self.DIGEST) if signature is None else signature,
                **ID,
            )

    def test_genuine(self):
        verify_digest(point(KEY), self.DIGEST, pair(KEY, self.DIGEST), **ID)

    def test_wrong(self):
        other = ec.generate_private_key(ec.SECP256K1())
        self.refused(SignatureInvalid, key=point(other))
        self.refused(SignatureInvalid, digest=keccak256(b"another"))
        self.refused(SignatureInvalid, signature=bytes(64))
        self.refused(MalformedEvidence, signature=pair(KEY, self.DIGEST) + b"\x1b")
        self.refused(MalformedEvidence, key=bytes(64))
        self.refused(MalformedEvidence, key=point(KEY)[:63])
        self.refused(MalformedEvidence, key=b"\x04" + point(KEY))

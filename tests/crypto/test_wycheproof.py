"""Every case of the recorded Wycheproof files: accepted exactly where it must be."""

from __future__ import annotations

import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from teeverify.crypto.ecdsa import verify_der, verify_raw
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.crypto.ethereum import recover_public_key, verify_digest
from teeverify.errors import MalformedEvidence, SignatureInvalid

pytestmark = pytest.mark.vectors
NAMES = {"id": "test.wycheproof", "what": "case"}
HALF = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2


def cases(vectors, name):
    data = json.loads((vectors / "wycheproof" / name).read_text())
    total = 0
    for group in data["testGroups"]:
        for case in group["tests"]:
            total += 1
            yield group, case
    assert total == data["numberOfTests"]


def accepts(verify, *arguments, **names):
    try:
        verify(*arguments, **names)
    except (SignatureInvalid, MalformedEvidence):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "verify"),
    [
        ("ecdsa_secp256r1_sha256_test.json", verify_der),
        ("ecdsa_secp384r1_sha384_test.json", verify_der),
        ("ecdsa_secp256r1_sha256_p1363_test.json", verify_raw),
        ("ecdsa_secp384r1_sha384_p1363_test.json", verify_raw),
    ],
)
def test_nist_curves(vectors, name, verify):
    for group, case in cases(vectors, name):
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
        accepted = accepts(verify, key, signature, message, **NAMES)
        assert accepted == (case["result"] == "valid"), case


def raw_of(case, *, der):
    """The 64 bytes that the case's signature stands for, or ``None`` where it has no such form."""
    signature = bytes.fromhex(case["sig"])
    if not der:
        return signature
    try:
        r, s = decode_dss_signature(signature)
        if encode_dss_signature(r, s) != signature or not (0 <= r < 2**256 and 0 <= s < 2**256):
            return None
    except ValueError:
        return None
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("name", "der"),
    [
        ("ecdsa_secp256k1_sha256_test.json", True),
        ("ecdsa_secp256k1_sha256_bitcoin_test.json", True),
        ("ecdsa_secp256k1_sha256_p1363_test.json", False),
    ],
)
def test_secp256k1(vectors, name, der):
    """Only the lower half of s is accepted: 72 valid cases of two files use the upper one."""
    import hashlib

    high = 0
    for group, case in cases(vectors, name):
        public = load_der_public_key(bytes.fromhex(group["publicKeyDer"])).public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )[1:]
        raw = raw_of(case, der=der)
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        accepted = raw is not None and accepts(
            verify_digest, public, digest, raw, id="test.wycheproof"
        )
        valid = case["result"] == "valid"
        if valid and int.from_bytes(raw[32:], "big") > HALF:
            high += 1
            valid = False
        assert accepted == valid, case
        if accepted and not recovers(digest, raw, public):
            # x of R is at least n, which only v of 29 or 30 could say.
            assert int.from_bytes(raw[:32], "big") < 2**256 - 2 * HALF - 1, case
    assert high == (0 if "bitcoin" in name else 72)


def recovers(digest, raw, public):
    def recovers_with(v):
        with contextlib.suppress(SignatureInvalid):
            return recover_public_key(digest, raw + bytes([v]), id="test.wycheproof") == public
        return False

    return any(map(recovers_with, (27, 28)))


def test_ed25519(vectors):
    for group, case in cases(vectors, "ed25519_test.json"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
        accepted = accepts(verify_ed25519, public, signature, message, **NAMES)
        assert accepted == (case["result"] == "valid"), case

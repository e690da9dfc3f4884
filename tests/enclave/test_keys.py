"""The signing keys: both libraries, checked by the verifier's own code and by a second library."""

from __future__ import annotations

import hashlib

import pytest

from teeverify.crypto.ethereum import address_of, recover_address
from teeverify.crypto.recovery import ORDER, recovery_parity
from teeverify.enclave import keys as module
from teeverify.enclave.keys import OpenSslSecp256k1, SigningKeys, new_secp256k1
from teeverify.responses.signed_text import parse_signature, verify_signed_text

TEXT = f"{'a' * 64}:{'b' * 64}"
HALF = ORDER // 2


def digests(count):
    return [hashlib.sha256(bytes([number])).digest() for number in range(count)]


@pytest.mark.parametrize("make", [new_secp256k1, OpenSslSecp256k1])
def test_every_signature_recovers_to_its_key(make):
    key = make()
    address = address_of(key.public_key)
    for digest in digests(24):
        signature = key.sign(digest)
        assert recover_address(digest, signature, id="test") == address
        assert int.from_bytes(signature[32:64], "big") <= HALF


def test_both_parities_occur():
    assert {OpenSslSecp256k1().sign(digest)[-1] for digest in digests(32)} == {27, 28}


def test_without_libsecp256k1_openssl_signs(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(module, "_LibSecp256k1", missing)
    assert isinstance(new_secp256k1(), OpenSslSecp256k1)


def test_a_digest_of_zero_is_signed_anew():
    key = OpenSslSecp256k1()
    assert recovery_parity(key._key.public_key(), bytes(32), 1, 1) is None


def test_a_foreign_signature_has_no_parity():
    key = OpenSslSecp256k1()
    assert recovery_parity(key._key.public_key(), digests(1)[0], 12345, 67890) is None


def test_both_signatures_verify_as_a_client_reads_them():
    keys = SigningKeys()
    for signature in keys.sign(TEXT):
        wire = (
            f'{{"text":"{TEXT}","signature":"{signature.text}",'
            f'"signing_address":"{signature.key}","signing_algo":"{signature.key.algorithm}"}}'
        )
        assert verify_signed_text(parse_signature(wire)) == signature.key
        assert signature.key == keys.identities[signature.key.algorithm]


def test_another_library_recovers_the_same_address():
    account = pytest.importorskip("eth_account")
    from eth_account.messages import encode_defunct

    keys = SigningKeys()
    signature = keys.sign(TEXT)[0]
    found = account.Account.recover_message(encode_defunct(text=TEXT), signature=signature.text)
    assert found == str(signature.key)


def test_two_processes_have_two_keys():
    assert SigningKeys().identities != SigningKeys().identities


def test_public_keys_belong_to_the_identities():
    keys = SigningKeys()
    assert address_of(keys.public_keys["ecdsa"]) == keys.identities["ecdsa"].identifier
    assert keys.public_keys["ed25519"] == keys.identities["ed25519"].identifier


def test_no_signature_repeats_its_nonce():
    key = new_secp256k1()
    assert len({key.sign(digest)[:32] for digest in digests(32)}) == 32


def test_what_is_shown_of_the_keys_is_public():
    keys = SigningKeys()
    assert repr(keys) == f"SigningKeys({', '.join(map(str, keys.identities.values()))})"

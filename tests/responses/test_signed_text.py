"""Signed texts: one grammar, one key, one way to hash (T40 to T44)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from eth_account import Account
from eth_account.messages import encode_defunct

from teeverify.crypto.ethereum import eip191_digest, keccak256, recover_address
from teeverify.errors import MalformedEvidence, SignatureInvalid, SignatureUnavailable
from teeverify.responses import parse_signature, verify_signed_text
from teeverify.simulator.keys import SimulatedKey

ONE, TWO = "a1" * 32, "b2" * 32
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture(scope="module", params=["ecdsa", "ed25519"])
def key(request):
    return SimulatedKey(request.param)


@pytest.fixture(scope="module")
def ecdsa():
    return SimulatedKey("ecdsa")


def answer(key: SimulatedKey, text: str = f"{ONE}:{TWO}", **changes: Any) -> bytes:
    """What a signature route returns; a change to ``None`` leaves the member out."""
    members = {
        "text": text,
        "signature": key.sign(text),
        "signing_address": str(key.key),
        "signing_algo": key.algorithm,
        **changes,
    }
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()


def verified(raw: bytes):
    return verify_signed_text(parse_signature(raw))


def malformed(raw: bytes | str) -> MalformedEvidence:
    with pytest.raises(MalformedEvidence) as caught:
        parse_signature(raw)
    assert caught.value.id == "answer.signature"
    return caught.value


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "::",
        ONE,
        f"{ONE}:",
        f":{ONE}",
        f":{ONE}:{TWO}",
        f"{ONE}:{TWO}:",
        f"{ONE}::{TWO}",
        f"{ONE.upper()}:{TWO}",
        f"{ONE}:{TWO.upper()}",
        f"0x{ONE}:0x{TWO}",
        f" {ONE}:{TWO}",
        f"{ONE}:{TWO} ",
        f"{ONE}:{TWO}\n",
        f"{ONE}: {TWO}",
        f"{ONE}:{TWO[:-1]}",
        f"{ONE}:{TWO}0",
        f"{ONE[:-1]}\uff11:{TWO}",
        f"{ONE};{TWO}",
        f"{ONE}\uff1a{TWO}",
        f"{ONE}:{TWO}:model",
        f"{ONE}:model:{TWO}",
        "m" * 5000 + f":{ONE}:{TWO}",
    ],
)
def test_no_signed_text(key, text):
    malformed(answer(key, text))


@pytest.mark.parametrize(
    "model",
    ["m", "qwen3:8b", "a:b:c:d", ONE, f"{ONE}:{TWO}", " m ", "модель", "m\u202e", "\x1b[2J", ":m"],
)
def test_a_model_may_hold_anything(key, model):
    """The text is split from the right, so colons belong to the model's name."""
    signed = parse_signature(answer(key, f"{model}:{ONE}:{TWO}"))
    assert (signed.model, signed.request_sha256, signed.response_sha256) == (model, ONE, TWO)
    assert verify_signed_text(signed) == key.key


def test_two_parts(key):
    signed = parse_signature(answer(key))
    assert (signed.model, signed.request_sha256, signed.response_sha256) == (None, ONE, TWO)
    assert verify_signed_text(signed) == key.key


# --- the answer of the route --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "signature", "signing_address"])
@pytest.mark.parametrize("value", [None, 1, True, [], {}, ""])
def test_a_member_that_is_missing_or_of_another_kind(key, name, value):
    members = {**json.loads(answer(key)), name: value}
    malformed(json.dumps(members))
    del members[name]
    malformed(json.dumps(members))


@pytest.mark.parametrize("value", [1, [], {}, "", "rsa", "ecdsa-p256", "ECDSA", "ed25519ph"])
def test_an_algorithm_that_does_not_exist(key, value):
    malformed(answer(key, signing_algo=value))


@pytest.mark.parametrize("value", ["", "Gateway", "provider", 1, [], True])
def test_a_kind_that_does_not_exist(key, value):
    malformed(answer(key, signature_kind=value))


@pytest.mark.parametrize("kind", [None, "provider_tee", "gateway"])
def test_a_kind_that_exists(key, kind):
    assert parse_signature(answer(key, signature_kind=kind)).kind == kind


def test_without_an_algorithm_it_is_ecdsa(ecdsa):
    assert verified(answer(ecdsa, signing_algo=None)) == ecdsa.key
    malformed(answer(SimulatedKey("ed25519"), signing_algo=None))


@pytest.mark.parametrize("code", ["STREAM_DISCONNECTED", "SIGNATURE_UNSUPPORTED", "\x1b[2J"])
def test_no_signature_was_kept(ecdsa, code):
    with pytest.raises(SignatureUnavailable) as caught:
        parse_signature(answer(ecdsa, error_code=code))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("code", [1, [], {}])
def test_an_error_code_of_another_kind(ecdsa, code):
    malformed(answer(ecdsa, error_code=code))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"text": "a", "text": "b"}',
        b"\xef\xbb\xbf{}",
        b'{"text": "\\ud800"}',
        b"{} {}",
        b'{"detail": "Chat id not found or expired"}',
        b"[" * 100_000,
        b"\0" * 10_000_000,
        "\ud800",
    ],
)
def test_no_answer_of_a_signature_route(raw):
    malformed(raw)


def test_cut_off_at_each_byte(key):
    raw = answer(key)
    for size in range(len(raw)):
        malformed(raw[:size])


# --- the signature -------------------------------------------------------------------------------


def test_another_text_under_the_same_signature(key):
    """EIP-191 covers the length too; Ed25519 the text itself."""
    signature = key.sign(f"{ONE}:{TWO}")
    for text in (f"{TWO}:{ONE}", f"{ONE}:{ONE}", f"m:{ONE}:{TWO}"):
        with pytest.raises(SignatureInvalid) as caught:
            verified(answer(key, text, signature=signature))
        assert caught.value.id == "answer.signature"


def test_another_key(key):
    other = SimulatedKey(key.algorithm)
    with pytest.raises(SignatureInvalid):
        verified(answer(key, signing_address=str(other.key)))


def test_each_bit_of_a_signature_counts(key):
    prefix = "0x" if key.algorithm == "ecdsa" else ""
    raw = bytes.fromhex(key.sign(f"{ONE}:{TWO}").removeprefix("0x"))
    for index in range(len(raw)):
        changed = bytearray(raw)
        changed[index] ^= 1
        with pytest.raises((SignatureInvalid, MalformedEvidence)):
            verified(answer(key, signature=prefix + changed.hex()))


@pytest.mark.parametrize("cut", [0, 1, 32, 63, 64])
def test_a_short_signature(key, cut):
    text = key.sign(f"{ONE}:{TWO}").removeprefix("0x")[: cut * 2]
    if key.algorithm == "ed25519" and cut == 64:
        text += "00"
    malformed(answer(key, signature=text))


def test_the_other_half_of_s(ecdsa):
    """T40: of the two valid forms of one signature only the lower is taken."""
    text = f"{ONE}:{TWO}"
    with pytest.raises(SignatureInvalid) as caught:
        verified(answer(ecdsa, signature=ecdsa.sign(text, high_s=True)))
    assert "upper half" in str(caught.value)


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 30, 37, 55, 255])
def test_no_recovery_id(ecdsa, v):
    raw = bytes.fromhex(ecdsa.sign(f"{ONE}:{TWO}")[2:])
    assert malformed_signature(ecdsa, raw[:-1] + bytes([v])).offset == 64


def malformed_signature(key: SimulatedKey, raw: bytes) -> MalformedEvidence:
    with pytest.raises(MalformedEvidence) as caught:
        verified(answer(key, signature="0x" + raw.hex()))
    return caught.value


def test_the_other_recovery_id_is_another_key(ecdsa):
    raw = bytes.fromhex(ecdsa.sign(f"{ONE}:{TWO}")[2:])
    with pytest.raises(SignatureInvalid):
        verified(answer(ecdsa, signature="0x" + (raw[:-1] + bytes([55 - raw[-1]])).hex()))


@pytest.mark.parametrize("r", [0, 1, 5, ORDER, ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, ORDER, 2**256 - 1])
def test_numbers_out_of_range(ecdsa, r, s):
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b"
    with pytest.raises(SignatureInvalid):
        verified(answer(ecdsa, signature="0x" + raw.hex()))


def _signed_over(key: SimulatedKey, digest: bytes, want: bytes) -> str:
    """A signature over any digest, with the recovery id that gives the key back."""
    r, s = decode_dss_signature(key._ecdsa.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    pair = r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
    signatures = [pair + bytes([v]) for v in (27, 28)]
    return next(
        "0x" + each.hex() for each in signatures if recover_address(digest, each, id="x") == want
    )


@pytest.mark.parametrize(
    "prehash",
    [
        lambda text: hashlib.sha256(text).digest(),
        keccak256,
        lambda text: eip191_digest(hashlib.sha256(text).digest()),
        lambda text: eip191_digest(hashlib.sha256(text).hexdigest().encode()),
        lambda text: keccak256(b"\x19Ethereum Signed Message:\n32" + keccak256(text)),
        lambda text: keccak256(b"\x19Ethereum Signed Message:\n" + text),
        lambda text: eip191_digest(text + b"\n"),
        lambda text: hashlib.sha256(b"\x19Ethereum Signed Message:\n129" + text).digest(),
    ],
    ids=["sha256", "keccak", "eip191-sha256", "eip191-hex", "eip191-keccak", "no-length",
         "newline", "sha256-prefixed"],
)  # fmt: skip
def test_another_way_to_hash(ecdsa, prehash):
    """T42: the very same key over the very same text, hashed otherwise."""
    text = f"{ONE}:{TWO}"
    signature = _signed_over(ecdsa, prehash(text.encode()), ecdsa.key.identifier)
    with pytest.raises(SignatureInvalid):
        verified(answer(ecdsa, text, signature=signature))


def test_a_key_of_one_kind_never_counts_as_the_other():
    """T05."""
    ecdsa, ed25519 = SimulatedKey("ecdsa"), SimulatedKey("ed25519")
    text = f"{ONE}:{TWO}"
    for key, other in ((ecdsa, "ed25519"), (ed25519, "ecdsa")):
        malformed(answer(key, signing_algo=other))
    padded = (ecdsa.key.identifier + bytes(12)).hex()
    stripped = ecdsa.sign(text)[2:-2]
    with pytest.raises((SignatureInvalid, MalformedEvidence)):
        verified(answer(ecdsa, signing_algo="ed25519", signing_address=padded, signature=stripped))


def test_small_order_points_sign_nothing():
    """With some libraries a key of small order verifies any text."""
    ed25519 = SimulatedKey("ed25519")
    for point in ("01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32, "00" * 31 + "80"):
        for scalar in ("00" * 32, "01" + "00" * 31):
            with pytest.raises((SignatureInvalid, MalformedEvidence)):
                verified(answer(ed25519, signing_address=point, signature=point + scalar))


def test_the_same_signer_as_eth_account(ecdsa):
    """An implementation of its own, which wallets use."""
    for number in range(20):
        text = f"model-{number}:{ONE}:{hashlib.sha256(bytes([number])).hexdigest()}"
        signature = ecdsa.sign(text)
        theirs = Account.recover_message(encode_defunct(text=text), signature=signature)
        assert str(verified(answer(ecdsa, text))) == theirs


def test_what_eth_account_signs():
    account = Account.create()
    text = f"model:{ONE}:{TWO}"
    signature = Account.sign_message(encode_defunct(text=text), account.key).signature
    raw = {
        "text": text,
        "signature": "0x" + bytes(signature).hex(),
        "signing_address": account.address,
        "signing_algo": "ecdsa",
    }
    assert str(verified(json.dumps(raw).encode())) == account.address

"""Compact tokens: ES384 under the given key, and no header that changes what that means."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from teeverify.crypto.jws import parse_compact, verify_es384
from teeverify.errors import MalformedEvidence, SignatureInvalid, TeeVerifyError
from teeverify.simulator.authority import new_key, sign_raw

NAMES = {"id": "test.token", "what": "token"}
KEY = new_key("p384")
HEADER = {"alg": "ES384", "kid": "k"}
CLAIMS = {"iss": "https://example.test", "exp": 1}


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header=HEADER, claims=CLAIMS, key=KEY, **more):
    signing = f"{part(header)}.{part(claims)}"
    return f"{signing}.{part(sign_raw(key, signing.encode(), **more))}"


def refused(text):
    with pytest.raises(MalformedEvidence) as caught:
        parse_compact(text, **NAMES)
    assert caught.value.id == "test.token"
    return caught.value


def not_verified(text, key=KEY):
    with pytest.raises(SignatureInvalid) as caught:
        verify_es384(parse_compact(text, **NAMES), key.public_key(), **NAMES)
    assert caught.value.id == "test.token"


def test_genuine():
    text = token()
    jws = parse_compact(text, **NAMES)
    verify_es384(jws, KEY.public_key(), **NAMES)
    assert jws.compact == text
    assert jws.header.text("kid") == "k"
    assert jws.payload.integer("exp") == 1
    assert jws.signing_input == text.rpartition(".")[0].encode()
    assert len(jws.signature) == 96


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "HS384", "ES256", "ES512", "RS256", "es384", ""]
)
def test_other_algorithms(algorithm):
    assert refused(token({"alg": algorithm})).field == "token.header.alg"


@pytest.mark.parametrize("algorithm", [None, 384, ["ES384"], True])
def test_algorithm_of_another_type(algorithm):
    refused(token({"alg": algorithm}))


def test_no_algorithm():
    refused(token({"kid": "k"}))


@pytest.mark.parametrize("name", ["b64", "crit", "jku", "jwk", "x5c", "x5u", "zip"])
@pytest.mark.parametrize("value", [True, None, ["exp"], "https://evil.test"])
def test_headers_that_bring_a_key_or_change_the_meaning(name, value):
    assert refused(token({**HEADER, name: value})).got == name


def test_header_with_the_same_member_twice():
    refused(token(b'{"alg":"none","alg":"ES384"}'))
    refused(token(claims=b'{"exp":1,"exp":2}'))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c", "....", "a.b.c.d", "é.é.é"])
def test_no_token(text):
    refused(text)


@pytest.mark.parametrize("value", [None, 1, b"a.b.c", ["a.b.c"]])
def test_not_text(value):
    refused(value)


def test_forms():
    text = token()
    refused(text + ".")
    refused("." + text)
    refused(text + "=")
    refused(text + "\n")
    refused(" " + text)
    refused(text.replace(".", " .", 1))
    refused(text.replace(".", "..", 1))
    refused("Bearer " + text)
    refused(token([1]))
    refused(token(claims="text"))
    refused(token(claims=b"\xff"))
    refused(token(b""))


def test_unused_bits_in_base64():
    _, claims, signature = token().split(".")
    odd = part(b'{"alg":"ES384"}x')[:-1]
    refused(f"{odd}.{claims}.{signature}")


def test_too_large():
    error = refused("a" * (512 * 1024 + 1))
    assert "characters" in error.message


def test_other_key():
    not_verified(token(), new_key("p384"))
    for curve in ("p256", "p521", "rsa"):
        not_verified(token(), new_key(curve))


def test_other_hash():
    not_verified(token(hash_algorithm=hashes.SHA256()))


def test_token_signed_on_another_curve():
    other = new_key("p256")
    not_verified(token(key=other), other)


def test_changed_parts():
    header, claims, signature = token().split(".")
    not_verified(f"{part({**HEADER, 'kid': 'other'})}.{claims}.{signature}")
    not_verified(f"{header}.{part({**CLAIMS, 'exp': 2})}.{signature}")
    # The same JSON in other bytes is another text.
    not_verified(f"{header}.{part(json.dumps(CLAIMS, indent=1).encode())}.{signature}")


def test_signature_forms():
    header, claims, signature = token().split(".")
    for odd in ("", part(bytes(96)), part(b"\xff" * 96), signature[:-4], signature + "AAAA"):
        not_verified(f"{header}.{claims}.{odd}")


def test_agrees_with_pyjwt():
    jwt = pytest.importorskip("jwt")
    text = jwt.encode(CLAIMS, KEY, algorithm="ES384", headers={"kid": "k"})
    verify_es384(parse_compact(text, **NAMES), KEY.public_key(), **NAMES)
    options = {"verify_exp": False}
    decoded = jwt.decode(token(), KEY.public_key(), algorithms=["ES384"], options=options)
    assert decoded == CLAIMS


@given(st.text(max_size=60))
def test_any_text(text):
    with pytest.raises(TeeVerifyError):
        parse_compact(text, **NAMES)


@given(st.lists(st.binary(max_size=30), min_size=3, max_size=3))
def test_any_parts(parts):
    with pytest.raises(TeeVerifyError):
        parse_compact(".".join(map(part, parts)), **NAMES)

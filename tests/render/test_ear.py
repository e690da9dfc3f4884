"""Results as EAR: the word of whoever holds the key, and never more than a warning when read."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from teeverify.errors import ConfigurationError, MalformedEvidence, SignatureInvalid
from teeverify.render.ear import PROFILE, read_ear, write_ear


def pair(key):
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public


def claims(token):
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def keys(request):
    return pair(ec.generate_private_key(request.param))


def test_round_trip(stage, keys, tmp_path):
    private, public = keys
    path = tmp_path / "key.pem"
    path.write_bytes(private)
    result = stage.appraise()
    token = write_ear(result, path)
    read = read_ear(token, public)
    assert read.stated == "contraindicated"  # simulated
    assert read.tier == "contraindicated"
    assert (read.summary, read.policy) == (result.summary, result.policy.hash)
    found = claims(token)
    assert found["eat_profile"] == PROFILE
    assert found["iss"] == read.issuer
    assert found["iss"].startswith("urn:ietf:params:oauth:jwk-thumbprint:sha-256:")
    assert set(found["submods"]["teeverify"]["ear_trustworthiness_vector"].values()) <= {2, 32, 96}


@pytest.mark.parametrize("stated", ["affirming", "warning", "none", "contraindicated", "x"])
def test_what_is_read_is_a_warning_at_best(stage, keys, stated):
    import jwt

    private, public = keys
    found = claims(write_ear(stage.appraise(), private))
    found["submods"]["teeverify"]["ear_status"] = stated
    algorithm = "ES256" if b"\n" in public and len(public) < 200 else "ES384"
    token = jwt.encode(found, private, algorithm=algorithm)
    tiers = {"affirming": "warning", "warning": "warning", "none": "none"}
    assert read_ear(token, public).tier == tiers.get(stated, "contraindicated")


def test_refused(stage, keys):
    import jwt

    private, public = keys
    token = write_ear(stage.appraise(), private)
    head, body, signature = token.split(".")
    other = pair(ec.generate_private_key(ec.SECP256R1()))[1]
    for wrong, key in ((token, other), (f"{head}.{body}.{signature[:-8]}AAAAAAAA", public)):
        with pytest.raises((SignatureInvalid, MalformedEvidence)):
            read_ear(wrong, key)
    found = claims(token)
    algorithm = "ES256" if len(public) < 200 else "ES384"
    for change in ({"eat_profile": "x"}, {"iss": "me"}, {"submods": {}}, {"iat": "x"}):
        with pytest.raises(MalformedEvidence):
            read_ear(jwt.encode({**found, **change}, private, algorithm=algorithm), public)
    for rubbish in ("", "x", b"\xff", "a.b.c", "x" * 300_000):
        with pytest.raises(MalformedEvidence):
            read_ear(rubbish, public)
    unsigned = jwt.encode(found, None, algorithm="none")
    with pytest.raises(MalformedEvidence):
        read_ear(unsigned, public)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa", "ed25519", "secp256k1"],
)
def test_no_such_key(stage, key, tmp_path):
    private, public = pair(key)
    with pytest.raises(ConfigurationError):
        write_ear(stage.appraise(), private)
    with pytest.raises(ConfigurationError):
        read_ear("x", public)
    for wrong in (b"rubbish", tmp_path / "none.pem"):
        with pytest.raises(ConfigurationError):
            write_ear(stage.appraise(), wrong)

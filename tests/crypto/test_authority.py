"""The simulator's authority: careful by default, and wrong in exactly one thing when asked."""

from __future__ import annotations

from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from teeverify.clock import UTC
from teeverify.crypto.ecdsa import p256_key, verify_raw
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority, new_key, sign_raw

NAMES = {"id": "test.authority", "what": "thing"}


def test_keys_and_serials_are_random():
    one, other = Authority.root("Root"), Authority.root("Root")
    assert one.public_bytes != other.public_bytes
    assert one.certificate.serial_number != other.certificate.serial_number


def test_overrides(tools):
    root = Authority.root("Root", organisation=None, serial=7, path_length=3)
    certificate = tools.read(root)
    assert certificate.serial == 7
    assert certificate.extensions.path_length == 3
    assert root.certificate.subject.rfc4514_string() == "CN=Root"
    day = datetime(2025, 1, 1, tzinfo=UTC)
    leaf = root.issue("Leaf", not_before=day, not_after=day, key_usage=["key_agreement"])
    assert (tools.read(leaf).not_before, tools.read(leaf).not_after) == (day, day)
    assert tools.read(leaf).key_usage == {"key_agreement"}
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Whole")])
    assert tools.read(root.issue("", subject=name)).common_name == "Whole"


def test_kind_of_new_keys():
    for curve, kind in (("p256", "secp256r1"), ("p384", "secp384r1"), ("rsa", "secp384r1")):
        leaf = Authority.root("Root", curve=curve).issue("Leaf")
        assert leaf.certificate.public_key().curve.name == kind
    assert Authority.root("R").issue("L", curve="p384").certificate.public_key().key_size == 384


def test_signatures_and_points():
    root = Authority.root("Root")
    verify_raw(p256_key(root.public_bytes, **NAMES), root.sign_raw(b"m"), b"m", **NAMES)
    leaf = Authority.root("Root", curve="p384")
    verify_raw(leaf.certificate.public_key(), sign_raw(leaf.key, b"m"), b"m", **NAMES)
    assert len(leaf.sign_raw(b"m", hash_algorithm=hashes.SHA256())) == 96


def test_what_cannot_be_done():
    public = new_key().public_key()
    leaf = Authority.root("Root").issue("Leaf", public_key=public)
    assert leaf.private_key is None
    for act in (lambda: leaf.issue("X"), leaf.crl, lambda: leaf.sign_raw(b"")):
        with pytest.raises(ConfigurationError):
            act()
    rsa = Authority.root("RSA", curve="rsa")
    with pytest.raises(ConfigurationError):
        rsa.sign_raw(b"")
    with pytest.raises(ConfigurationError):
        _ = rsa.public_bytes


def test_pem(p256):
    assert x509.load_pem_x509_certificate(p256.leaf.pem) == p256.leaf.certificate

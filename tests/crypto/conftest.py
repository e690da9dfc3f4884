"""What the tests of the crypto room share: a path of forged certificates, and odd DER."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import settings

from teeverify.clock import UTC
from teeverify.crypto.certificates import Certificate, parse_certificate
from teeverify.crypto.der_writer import element, integer, sequence
from teeverify.roots import TrustAnchor
from teeverify.simulator.authority import Authority

settings.register_profile("crypto", database=None, deadline=None, max_examples=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "crypto"))
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def read(authority: Authority, what: str = "certificate") -> Certificate:
    return parse_certificate(authority.der, id="test.certificate", what=what)


def anchor_of(authority: Authority) -> TrustAnchor:
    certificate = read(authority)
    return TrustAnchor(
        name=certificate.common_name, subject=certificate.subject, spki=certificate.spki
    )


def signed(parts: Mapping[str, bytes], *, after: bytes = b"", **changes: bytes) -> bytes:
    """The form of a certificate or a list, each part replaceable; its signature is nonsense."""
    nonsense = element(3, b"\x00", sequence(integer(1), integer(1)))
    given = {**parts, "outer": ECDSA_SHA256, "signature": nonsense, **changes}
    outer, signature = given.pop("outer"), given.pop("signature")
    return sequence(sequence(*given.values()), outer, signature) + after


@dataclass(frozen=True)
class Family:
    """Root, CA and leaf of one forged vendor."""

    root: Authority
    ca: Authority
    leaf: Authority

    @property
    def chain(self) -> list[Certificate]:
        return [read(self.leaf), read(self.ca), read(self.root)]

    @property
    def anchors(self) -> list[TrustAnchor]:
        return [anchor_of(self.root)]


def make_family(curve: str) -> Family:
    root = Authority.root("Test Root CA", curve=curve)
    ca = root.issue("Test CA", ca=True, path_length=0)
    return Family(root, ca, ca.issue("Test Leaf"))


@pytest.fixture(scope="session")
def p256() -> Family:
    return make_family("p256")


@pytest.fixture(scope="session")
def p384() -> Family:
    return make_family("p384")


@pytest.fixture(scope="session")
def rsa_root() -> Authority:
    return Authority.root("RSA Intermediate 004", curve="rsa")


@pytest.fixture
def at() -> datetime:
    return datetime(2026, 6, 9, tzinfo=UTC)


class Tools:
    """The helpers above, for tests (with --import-mode=importlib they cannot be imported)."""

    read = staticmethod(read)
    anchor_of = staticmethod(anchor_of)
    tlv = staticmethod(element)
    signed = staticmethod(signed)
    ECDSA_SHA256 = ECDSA_SHA256
    make_family = staticmethod(make_family)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools

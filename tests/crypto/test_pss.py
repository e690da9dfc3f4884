"""RSASSA-PSS with AMD's fixed parameters, and revocation lists of trust anchors."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from teeverify.crypto.crl import parse_crl, verify_crl_of_anchor
from teeverify.crypto.signed import PSS_ALGORITHMS, Signed, verify_signed
from teeverify.errors import (
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    SignatureInvalid,
)
from teeverify.roots import custom_roots
from teeverify.simulator.amd_certificates import authority, revocation_list

AT = datetime(2026, 9, 1, tzinfo=timezone.utc)
TBS = b"\x30\x03\x02\x01\x05"


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


def signed(key, *, digest=None, salt=48, mgf=None, algorithm=PSS_ALGORITHMS[0], scheme=None):
    digest = digest or hashes.SHA384()
    scheme = scheme or padding.PSS(padding.MGF1(mgf or digest), salt)
    return Signed(tbs=TBS, algorithm=algorithm, signature=key.sign(TBS, scheme, digest))


def check(key, made):
    verify_signed(made, key.public_key(), id="test.pss", what="thing")


@pytest.mark.parametrize("algorithm", PSS_ALGORITHMS, ids=len)
def test_good(key, algorithm):
    check(key, signed(key, algorithm=algorithm))


@pytest.mark.parametrize("change", [
    {"digest": hashes.SHA256()}, {"digest": hashes.SHA512()}, {"salt": 47}, {"salt": 0},
    {"mgf": hashes.SHA256()}, {"scheme": padding.PKCS1v15()},
], ids=["sha256", "sha512", "salt-47", "salt-0", "mgf-sha256", "pkcs1"])  # fmt: skip
def test_other_parameters(key, change):
    """They are taken from a constant, so nothing else verifies."""
    with pytest.raises(SignatureInvalid):
        check(key, signed(key, **change))


@pytest.mark.parametrize("algorithm", PSS_ALGORITHMS, ids=len)
def test_every_byte_of_the_parameters_counts(key, algorithm):
    for offset in range(len(algorithm)):
        changed = bytearray(algorithm)
        changed[offset] ^= 1
        with pytest.raises(SignatureInvalid):
            check(key, signed(key, algorithm=bytes(changed)))


def test_another_key(key):
    with pytest.raises(SignatureInvalid):
        check(rsa.generate_private_key(65537, 2048), signed(key))


@pytest.fixture(scope="module")
def anchor(key):
    (anchor,) = custom_roots([
        authority(common_name="ARK-Milan", issuer_name="ARK-Milan", key=key, signer=key,
                  serial=1, not_before=AT, not_after=AT + timedelta(days=1)),
    ]).amd  # fmt: skip
    return anchor


class TestListOfAnAnchor:
    def verify(self, anchor, key, *, at=AT, **changes):
        given = {
            "issuer_name": "ARK-Milan",
            "signer": key,
            "this_update": AT - timedelta(days=1),
            "next_update": AT + timedelta(days=1),
            **changes,
        }
        crl = parse_crl(revocation_list(**given), id="test.crl", what="list")
        verify_crl_of_anchor(crl, anchor, at=at, id="test.crl", what="list")

    def test_good(self, anchor, key):
        self.verify(anchor, key)

    @pytest.mark.parametrize("days", [-2, 2])
    def test_dates(self, anchor, key, days):
        with pytest.raises(EndorsementUnavailable):
            self.verify(anchor, key, at=AT + timedelta(days=days))

    def test_of_another_ca(self, anchor, key):
        with pytest.raises(EndorsementInvalid):
            self.verify(anchor, key, issuer_name="ARK-Genoa")

    def test_another_key(self, anchor, key):
        with pytest.raises(SignatureInvalid):
            self.verify(anchor, key, signer=rsa.generate_private_key(65537, 2048))

    def test_time_without_a_zone(self, anchor, key):
        with pytest.raises(ConfigurationError):
            self.verify(anchor, key, at=AT.replace(tzinfo=None))

"""Revocation lists: whole, of the right CA, current; and what is listed is refused."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from teeverify.clock import UTC
from teeverify.crypto.crl import parse_crl, require_not_revoked, verify_crl
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.authority import NOT_AFTER, NOT_BEFORE, Authority, new_key

NAMES = {"id": "test.crl", "what": "list"}


def read(der):
    return parse_crl(der, **NAMES)


def refused(der):
    with pytest.raises(MalformedEvidence) as caught:
        read(der)
    assert caught.value.id == "test.crl"
    return caught.value


@pytest.fixture(scope="module")
def make(p256, tools):
    """A well-formed list (its signature is nonsense) with parts replaced by other DER."""
    tlv = tools.tlv

    def build(*, after=b"", **changes):
        parts = {
            "version": tlv(2, b"\x01"),
            "algorithm": tools.ECDSA_SHA256,
            "issuer": p256.ca.certificate.subject.public_bytes(),
            "this_update": tlv(0x17, b"240101000000Z"),
            "next_update": tlv(0x17, b"491231235959Z"),
            "revoked": b"",
            "extensions": b"",
        }
        return tools.signed(parts, after=after, **changes)

    return build


class TestParse:
    def test_the_pattern_itself_is_accepted(self, make):
        crl = read(make())
        assert (crl.number, crl.key_identifier, crl.revoked) == (None, None, frozenset())

    def test_fields(self, p256, tools):
        crl = read(p256.ca.crl([7, 5], number=9))
        assert crl.revoked == {5, 7}
        assert crl.number == 9
        assert (crl.this_update, crl.next_update) == (NOT_BEFORE, NOT_AFTER)
        assert crl.issuer == tools.read(p256.ca).subject
        assert crl.key_identifier is not None
        assert len(crl.sha256) == 64
        assert crl == read(crl.der)
        assert crl != read(p256.ca.crl([7], number=9))

    def test_number_and_key_identifier_may_be_absent(self, p256):
        crl = read(p256.ca.crl(number=None, key_identifier=False))
        assert (crl.number, crl.key_identifier) == (None, None)

    @pytest.mark.parametrize("der", [b"", b"\x30\x00", b"\x00" * 64, b"-----BEGIN X509 CRL-----"])
    def test_no_list(self, der):
        refused(der)

    def test_trailing_data_and_truncation(self, p256):
        der = p256.ca.crl([1])
        refused(der + b"\0")
        for size in range(0, len(der), 3):
            refused(der[:size])

    def test_too_large(self):
        assert refused(bytes(8 * 1024 * 1024 + 1)).have == 8 * 1024 * 1024 + 1

    def test_version(self, make, tools):
        refused(make(version=b""))
        refused(make(version=tools.tlv(2, b"\x00")))
        refused(make(version=tools.tlv(2, b"\x02")))

    def test_without_next_update(self, make):
        assert "next update" in refused(make(next_update=b"")).message

    def test_two_algorithms(self, make):
        refused(make(outer=bytes.fromhex("300a06082a8648ce3d040303")))

    def test_ecdsa_with_null_parameters(self, make):
        odd = bytes.fromhex("300c06082a8648ce3d0403020500")
        refused(make(algorithm=odd, outer=odd))

    def test_extension_twice(self, make, tools):
        tlv = tools.tlv
        number = tlv(0x30, tlv(6, b"\x55\x1d\x14"), tlv(4, tlv(2, b"\x01")))
        read(make(extensions=tlv(0xA0, tlv(0x30, number))))
        refused(make(extensions=tlv(0xA0, tlv(0x30, number, number))))

    def test_dates_that_are_none(self, make, tools):
        refused(make(this_update=tools.tlv(0x17, b"249901000000Z")))
        refused(make(next_update=tools.tlv(0x17, b"2")))

    @pytest.mark.parametrize("critical", [True, False])
    @pytest.mark.parametrize(
        "extension",
        [
            x509.DeltaCRLIndicator(1),
            x509.IssuingDistributionPoint(
                full_name=None,
                relative_name=None,
                only_contains_user_certs=True,
                only_contains_ca_certs=False,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            ),
        ],
    )
    def test_list_of_only_a_part(self, p256, extension, critical):
        error = refused(p256.ca.crl(extensions=[(extension, critical)]))
        assert "only part" in error.message

    def test_unknown_extensions(self, p256):
        refused(p256.ca.crl(extensions=[("1.2.3.4", b"\x05\x00", True)]))
        read(p256.ca.crl(extensions=[("1.2.3.4", b"\x05\x00", False)]))

    def test_entries(self, p256, make, tools):
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        held = x509.CRLReason(x509.ReasonFlags.certificate_hold)
        for value in (reason, held, x509.InvalidityDate(datetime(2024, 1, 1))):  # noqa: DTZ001
            for critical in (True, False):
                odd = [(value, critical)]
                assert read(p256.ca.crl([3], entry_extensions=odd)).revoked == {3}
        unknown = [("1.2.3.4", b"\x05\x00", False)]
        assert read(p256.ca.crl([3], entry_extensions=unknown)).revoked == {3}
        removed = x509.CRLReason(x509.ReasonFlags.remove_from_crl)
        refused(p256.ca.crl([3], entry_extensions=[(removed, False)]))
        refused(p256.ca.crl([3], entry_extensions=[("1.2.3.4", b"\x05\x00", True)]))
        issuer = x509.CertificateIssuer([x509.DNSName("x")])
        refused(p256.ca.crl([3], entry_extensions=[(issuer, True)]))
        tlv = tools.tlv
        refused(make(revoked=tlv(0x30, tlv(0x30, tlv(2, b"\x03")))))
        refused(make(revoked=tlv(0x30, tlv(0x30, tlv(2, b""), tlv(0x17, b"240101000000Z")))))

    def test_each_serial_number_is_found_and_no_part_of_one(self, p256):
        reason = [(x509.CRLReason(x509.ReasonFlags.key_compromise), False)]
        revoked = [1, 0x7F, 0x80, 0xFF, 0x8000, 0x02_01_05_77, 2**64, 2**159 - 1]
        for extensions in (reason, ()):
            crl = read(p256.ca.crl(revoked, entry_extensions=extensions))
            assert all(crl.revokes(serial) for serial in revoked)
            others = [0, 5, 2, 0x77, 0x0201, 0x81, 0x7FFF, 2**64 - 1, 2**159, -1, -0x80]
            assert not any(crl.revokes(serial) for serial in others)
            assert crl.revoked == set(revoked)

    def test_a_padded_serial_number_hides_nothing(self, make, tools):
        tlv = tools.tlv
        reason = bytes.fromhex("300c300a0603551d1504030a0101")
        for padded in (b"\x00\x05", b"\x00\x00\x85"):
            entry = tlv(0x30, tlv(2, padded), tlv(0x17, b"240101000000Z"), reason)
            refused(make(revoked=tlv(0x30, entry)))

    def test_many_entries(self, make, tools):
        tlv = tools.tlv
        date = tlv(0x17, b"240101000000Z")
        entries = [
            tlv(0x30, tlv(2, n.to_bytes(4, "big")), date) for n in range(2**24, 2**24 + 9999)
        ]
        assert len(read(make(revoked=tlv(0x30, *entries))).revoked) == 9999


class TestVerify:
    def refused(self, kind, der, issuer, at):
        with pytest.raises(kind) as caught:
            verify_crl(read(der), issuer, at=at, **NAMES)
        assert type(caught.value) is kind
        return caught.value

    def test_genuine(self, p256, p384, rsa_root, at, tools):
        for ca in (p256.ca, p256.root, p384.ca, rsa_root):
            verify_crl(read(ca.crl()), tools.read(ca), at=at, **NAMES)

    def test_of_another_ca(self, p256, at, tools):
        error = self.refused(EndorsementInvalid, p256.root.crl(), tools.read(p256.ca), at)
        assert "another CA" in error.message
        assert error.got.startswith("'Test Root CA' (sha256 of the name ")
        self.refused(
            EndorsementInvalid,
            p256.ca.crl(issuer=p256.root.certificate.subject),
            tools.read(p256.ca),
            at,
        )

    def test_signed_by_another_key(self, p256, at, tools):
        ca = tools.read(p256.ca)
        self.refused(SignatureInvalid, p256.ca.crl(signer=new_key()), ca, at)
        self.refused(SignatureInvalid, p256.ca.crl(signing_hash=hashes.SHA384()), ca, at)
        twin = p256.root.issue("Test CA", ca=True)
        self.refused(SignatureInvalid, twin.crl(), ca, at)

    def test_ca_that_may_not_sign_lists(self, p256, at, tools):
        for usage in (["key_cert_sign"], None):
            ca = p256.root.issue("CA", ca=True, key_usage=usage)
            self.refused(ChainInvalid, ca.crl(), tools.read(ca), at)

    def test_dates(self, p256, tools):
        ca, second = tools.read(p256.ca), timedelta(seconds=1)
        made, due = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
        der = p256.ca.crl(this_update=made, next_update=due)
        for moment in (made, due):
            verify_crl(read(der), ca, at=moment, **NAMES)
        error = self.refused(EndorsementUnavailable, der, ca, due + second)
        assert "outdated at 2026-02-01T00:00:01Z" in error.message
        assert "2026-02-01T00:00:00Z" in error.got
        error = self.refused(EndorsementUnavailable, der, ca, made - second)
        assert "not current yet" in error.message

    def test_wrong_comes_before_outdated(self, p256, tools):
        late = datetime(2050, 6, 1, tzinfo=UTC)
        self.refused(SignatureInvalid, p256.ca.crl(signer=new_key()), tools.read(p256.ca), late)

    def test_time_without_zone(self, p256, tools):
        naive = datetime(2026, 6, 9)  # noqa: DTZ001 -- that is the mistake
        self.refused(ConfigurationError, p256.ca.crl(), tools.read(p256.ca), naive)

    def test_any_flipped_bit(self, p256, at, tools):
        der, ca = p256.ca.crl([1, 2]), tools.read(p256.ca)
        for position in range(len(der)):
            broken = bytearray(der)
            broken[position] ^= 1 << position % 8
            with pytest.raises(TeeVerifyError):
                verify_crl(read(bytes(broken)), ca, at=at, **NAMES)


class TestRevoked:
    def test_listed(self, p256, tools):
        leaf = tools.read(p256.leaf)
        with pytest.raises(EndorsementInvalid, match="'Test Leaf' is revoked") as caught:
            require_not_revoked(leaf, read(p256.ca.crl([1, leaf.serial])), **NAMES)
        assert f"{leaf.serial:x}" in caught.value.got

    def test_not_listed(self, p256, tools):
        leaf = tools.read(p256.leaf)
        require_not_revoked(leaf, read(p256.ca.crl([leaf.serial + 1])), **NAMES)
        require_not_revoked(leaf, read(p256.ca.crl()), **NAMES)

    def test_the_list_of_another_ca_says_nothing(self, p256, tools):
        leaf = tools.read(p256.leaf)
        with pytest.raises(EndorsementInvalid, match="not that of"):
            require_not_revoked(leaf, read(p256.root.crl()), **NAMES)


@given(st.binary(max_size=120))
def test_any_bytes(data):
    with pytest.raises(TeeVerifyError):
        read(data)


@pytest.fixture(scope="module")
def one_list(p256):
    return p256.ca.crl([1, 2])


@given(data=st.data())
def test_any_change_gives_a_list_or_our_error(one_list, data):
    der = bytearray(one_list)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TeeVerifyError):
        read(bytes(der))


def test_simulator_names_are_marked():
    root = Authority.root("Intel SGX Root CA")
    [organisation] = root.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert organisation.value == "teeverify simulator"

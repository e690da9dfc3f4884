"""verify_path: a path is refused for each single thing that can be wrong with it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from teeverify.clock import UTC
from teeverify.crypto.certificates import (
    parse_certificate,
    verify_dates,
    verify_path,
    verify_signed_by,
)
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.authority import NOT_AFTER, NOT_BEFORE, Authority, new_key

NAMES = {"id": "test.path", "what": "test path"}
UNKNOWN = "1.3.6.1.4.1.55555.1"


def refused(kind, chain, anchors, at, **more):
    with pytest.raises(kind) as caught:
        verify_path(chain, anchors, at=at, **NAMES, **more)
    assert type(caught.value) is kind
    return caught.value


def below(tools, parent, *above, **overrides):
    """A path whose leaf is issued by ``parent`` with one thing set otherwise."""
    return [tools.read(a) for a in (parent.issue("Test Leaf", **overrides), parent, *above)]


class TestAnchors:
    def test_no_anchor_is_the_callers_mistake(self, p256, at):
        error = refused(ConfigurationError, p256.chain, [], at)
        assert error.id == "usage.roots"

    def test_time_without_zone_is_the_callers_mistake(self, p256):
        naive = datetime(2026, 6, 9)  # noqa: DTZ001 -- that is the mistake
        error = refused(ConfigurationError, p256.chain, p256.anchors, naive)
        assert error.id == "usage.time"
        with pytest.raises(ConfigurationError):
            verify_dates(p256.chain[0], at=naive, **NAMES)

    def test_foreign_root_is_refused_and_named(self, p256, at, tools):
        other = tools.make_family("p256")
        error = refused(ChainInvalid, other.chain, p256.anchors, at)
        assert error.id == "test.path"
        assert "'Test Root CA'" in error.got
        assert "key sha256:" in error.got
        assert p256.anchors[0].fingerprint in error.want
        assert "never trusted" in error.hint
        assert "--unsafe-test-roots" in error.hint

    def test_foreign_root_of_nobodys_simulator_gets_no_simulator_hint(self, p256, at, tools):
        root = Authority.root("Evil Root", organisation="Evil")
        chain = [tools.read(root.issue("Leaf", organisation=None)), tools.read(root)]
        error = refused(ChainInvalid, chain, p256.anchors, at)
        assert "--unsafe-test-roots" not in error.hint

    def test_same_name_with_another_key_is_a_foreign_root(self, p256, at, tools):
        twin = Authority.root("Test Root CA")
        chain = [tools.read(twin.issue("Leaf")), tools.read(twin)]
        assert chain[1].subject == p256.anchors[0].subject
        refused(ChainInvalid, chain, p256.anchors, at)

    def test_same_key_with_another_name_is_a_foreign_root(self, p256, at, tools):
        renamed = Authority.root("Other Root CA", key=p256.root.private_key)
        chain = [tools.read(renamed.issue("Leaf")), tools.read(renamed)]
        assert chain[1].spki == p256.anchors[0].spki
        refused(ChainInvalid, chain, p256.anchors, at)

    def test_self_signed_leaf_under_an_anchors_name(self, p256, at, tools):
        name = p256.root.certificate.subject
        forged = Authority.root("", subject=name)
        refused(ChainInvalid, [tools.read(forged)], p256.anchors, at)

    def test_certificate_that_only_names_an_anchor_as_issuer(self, p256, at, tools):
        forged = Authority.root("Leaf", issuer=p256.root.certificate.subject)
        refused(SignatureInvalid, [tools.read(forged)], p256.anchors, at)

    def test_issuer_that_is_no_anchor(self, p256, at, tools):
        stranger = Authority.root("Stranger")
        leaf = stranger.issue("X", organisation=None)
        error = refused(ChainInvalid, [tools.read(leaf)], p256.anchors, at)
        assert "unknown issuer" in error.message
        assert "--unsafe-test-roots" in error.hint
        real = Authority.root("Stranger", organisation="Somebody")
        error = refused(ChainInvalid, [tools.read(real.issue("X"))], p256.anchors, at)
        assert "--unsafe-test-roots" in error.hint

    def test_an_anchor_alone_is_no_path(self, p256, at):
        error = refused(ChainInvalid, p256.chain[2:], p256.anchors, at)
        assert "nothing is below it" in error.message

    def test_nothing_may_follow_the_anchor(self, p256, at, tools):
        extra = tools.read(Authority.root("Extra"))
        refused(ChainInvalid, [*p256.chain, extra], p256.anchors, at)

    def test_nothing_may_follow_an_intermediate_anchor(self, p256, at, tools):
        error = refused(ChainInvalid, p256.chain, [tools.anchor_of(p256.ca)], at)
        assert "'Test Root CA' comes after the trust anchor" in error.message

    def test_root_in_the_path(self, p256, at):
        anchor = p256.anchors[0]
        assert verify_path(p256.chain, [anchor], at=at, **NAMES) is anchor

    def test_root_left_out_of_the_path(self, p256, at):
        anchor = p256.anchors[0]
        assert verify_path(p256.chain[:2], [anchor], at=at, **NAMES) is anchor

    def test_p384(self, p384, at):
        assert verify_path(p384.chain, p384.anchors, at=at, **NAMES).name == "Test Root CA"

    def test_the_right_one_of_several_anchors(self, p256, p384, at):
        anchors = [*p384.anchors, *p256.anchors]
        assert verify_path(p256.chain, anchors, at=at, **NAMES) is anchors[1]

    @pytest.mark.parametrize("first", [True, False])
    def test_anchors_of_one_name_and_two_keys(self, p256, at, tools, first):
        twin = tools.anchor_of(Authority.root("Test Root CA"))
        anchors = [twin, *p256.anchors] if first else [*p256.anchors, twin]
        found = verify_path(p256.chain[:2], anchors, at=at, **NAMES)
        assert found.spki == p256.anchors[0].spki

    def test_anchor_whose_key_cannot_be_used(self, p256, at, tools):
        odd = tools.anchor_of(Authority.root("Test Root CA", curve="p521"))
        refused(MalformedEvidence, p256.chain[:2], [odd], at)

    def test_intermediate_as_anchor_presented(self, p256, at, tools):
        anchor = tools.anchor_of(p256.ca)
        assert verify_path(p256.chain[:2], [anchor], at=at, **NAMES) is anchor

    def test_intermediate_as_anchor_left_out(self, p256, at, tools):
        anchor = tools.anchor_of(p256.ca)
        assert verify_path(p256.chain[:1], [anchor], at=at, **NAMES) is anchor


class TestShape:
    def test_empty(self, p256, at):
        refused(ChainInvalid, [], p256.anchors, at)

    @pytest.mark.parametrize("depth", [8, 9])
    def test_depth(self, at, tools, depth):
        root = Authority.root("Root")
        line = [root]
        while len(line) < depth:
            line.insert(0, line[0].issue(f"CA {len(line)}", ca=True))
        chain = [tools.read(one) for one in line]
        if depth == 8:
            verify_path(chain, [tools.anchor_of(root)], at=at, **NAMES)
        else:
            refused(ChainInvalid, chain, [tools.anchor_of(root)], at)

    def test_the_same_certificate_twice(self, p256, at):
        leaf, ca, root = p256.chain
        for chain in ([leaf, ca, ca, root], [leaf, leaf, ca, root], [leaf, ca, root, root]):
            refused(ChainInvalid, chain, p256.anchors, at)

    def test_loop_through_cross_signing(self, at, tools):
        root = Authority.root("Root")
        first = root.issue("A", ca=True)
        second = first.issue("B", ca=True)
        again = second.issue("A", ca=True, key=first.private_key)
        chain = [tools.read(a) for a in (again.issue("Leaf"), again, second, first, root)]
        error = refused(ChainInvalid, chain, [tools.anchor_of(root)], at)
        assert "twice" in error.message

    def test_self_issued_in_the_middle(self, p256, at, tools):
        rollover = p256.root.issue("Test Root CA", ca=True)
        chain = [tools.read(a) for a in (rollover.issue("Leaf"), rollover, p256.root)]
        error = refused(ChainInvalid, chain, p256.anchors, at)
        assert "self-issued" in error.message

    def test_wrong_order(self, p256, at):
        leaf, ca, root = p256.chain
        refused(ChainInvalid, [ca, leaf, root], p256.anchors, at)
        refused(ChainInvalid, [root, ca, leaf], p256.anchors, at)

    def test_missing_middle(self, p256, at):
        leaf, _, root = p256.chain
        error = refused(ChainInvalid, [leaf, root], p256.anchors, at)
        assert "'Test Root CA'" in error.got
        assert "'Test CA'" in error.want


class TestLinks:
    def test_issuer_name_is_not_the_subject_above(self, p256, at, tools):
        other = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA ")])
        chain = below(tools, p256.ca, p256.root, issuer=other)
        refused(ChainInvalid, chain, p256.anchors, at)

    def test_signed_by_another_key(self, p256, at, tools):
        chain = below(tools, p256.ca, p256.root, signer=new_key("p256"))
        error = refused(SignatureInvalid, chain, p256.anchors, at)
        assert "'Test Leaf'" in error.message

    def test_ca_signed_by_another_key(self, p256, at, tools):
        ca = p256.root.issue("Test CA", ca=True, signer=new_key("p256"))
        refused(SignatureInvalid, below(tools, ca, p256.root), p256.anchors, at)

    def test_issuer_is_a_leaf(self, p256, at, tools):
        leaf = p256.ca.issue("A leaf")
        error = refused(ChainInvalid, below(tools, leaf, p256.ca, p256.root), p256.anchors, at)
        assert "not a CA" in error.message

    @pytest.mark.parametrize("ca", [False, None])
    def test_issuer_has_no_ca_flag(self, p256, at, tools, ca):
        issuer = p256.root.issue("CA", ca=ca, key_usage=["key_cert_sign"])
        error = refused(ChainInvalid, below(tools, issuer, p256.root), p256.anchors, at)
        assert "not a CA" in error.message

    @pytest.mark.parametrize("usage", [None, (), ("digital_signature", "crl_sign")])
    def test_issuer_may_not_sign_certificates(self, p256, at, tools, usage):
        issuer = p256.root.issue("CA", ca=True, key_usage=usage)
        error = refused(ChainInvalid, below(tools, issuer, p256.root), p256.anchors, at)
        assert "key usage" in error.message

    @pytest.mark.parametrize("override", [{"ca": None}, {"ca": False}, {"key_usage": None}])
    def test_presented_root_must_look_like_a_ca(self, at, tools, override):
        root = Authority.root("Root", **override)
        refused(ChainInvalid, below(tools, root), [tools.anchor_of(root)], at)

    def test_path_length(self, p256, at, tools):
        too_low = p256.ca.issue("Below", ca=True)
        chain = below(tools, too_low, p256.ca, p256.root)
        error = refused(ChainInvalid, chain, p256.anchors, at)
        assert "'Test CA' allows 0 CAs below it, not 1" in error.message

    def test_path_length_of_the_presented_root(self, at, tools):
        root = Authority.root("Root", path_length=0)
        ca = root.issue("CA", ca=True)
        refused(ChainInvalid, below(tools, ca, root), [tools.anchor_of(root)], at)
        verify_path(below(tools, root), [tools.anchor_of(root)], at=at, **NAMES)

    def test_path_length_does_not_count_the_leaf(self, p256, at, tools):
        chain = below(tools, p256.ca, p256.root, ca=True)
        verify_path(chain, p256.anchors, at=at, **NAMES)

    def test_unknown_critical_extension_anywhere(self, p256, at, tools):
        odd = (UNKNOWN, b"\x05\x00", True)
        leaf = below(tools, p256.ca, p256.root, extensions=[odd])
        ca = below(tools, p256.root.issue("CA", ca=True, extensions=[odd]), p256.root)
        root = Authority.root("Root", extensions=[odd])
        for chain, anchors in (
            (leaf, p256.anchors),
            (ca, p256.anchors),
            (below(tools, root), [tools.anchor_of(root)]),
        ):
            error = refused(ChainInvalid, chain, anchors, at)
            assert UNKNOWN in error.message
            verify_path(chain, anchors, at=at, **NAMES, critical=frozenset({UNKNOWN}))

    def test_name_constraints_are_not_silently_ignored(self, p256, at, tools):
        constraint = x509.NameConstraints([x509.DNSName("example.org")], None)
        issuer = p256.root.issue("CA", ca=True, extensions=[(constraint, True)])
        refused(ChainInvalid, below(tools, issuer, p256.root), p256.anchors, at)

    def test_unknown_extension_that_is_not_critical(self, p256, at, tools):
        chain = below(tools, p256.ca, p256.root, extensions=[(UNKNOWN, b"\x05\x00", False)])
        verify_path(chain, p256.anchors, at=at, **NAMES)


class TestAlgorithms:
    @pytest.mark.parametrize("signing_hash", [hashes.SHA384(), hashes.SHA512()])
    def test_p256_with_another_hash(self, p256, at, tools, signing_hash):
        chain = below(tools, p256.ca, p256.root, signing_hash=signing_hash)
        refused(SignatureInvalid, chain, p256.anchors, at)

    @pytest.mark.parametrize("signing_hash", [hashes.SHA256(), hashes.SHA512()])
    def test_p384_with_another_hash(self, p384, at, tools, signing_hash):
        chain = below(tools, p384.ca, p384.root, signing_hash=signing_hash)
        refused(SignatureInvalid, chain, p384.anchors, at)

    def test_right_signature_under_a_wrong_label(self, p256, p384, rsa_root, at, tools):
        """The signature is over the curve's own hash; only the algorithm's name is another."""
        labels = {
            "ecdsa-with-SHA256": bytes.fromhex("06082a8648ce3d040302"),
            "ecdsa-with-SHA384": bytes.fromhex("06082a8648ce3d040303"),
            "sha256WithRSA": bytes.fromhex("06092a864886f70d01010b"),
            "sha1WithRSA": bytes.fromhex("06092a864886f70d010105"),
        }
        for root, own, other in (
            (p256.root, "ecdsa-with-SHA256", "ecdsa-with-SHA384"),
            (p384.root, "ecdsa-with-SHA384", "ecdsa-with-SHA256"),
            (rsa_root, "sha256WithRSA", "sha1WithRSA"),
        ):
            sent = root.issue("Test Leaf", curve="p256").certificate
            tbs = sent.tbs_certificate_bytes.replace(labels[own], labels[other])
            algorithm = tools.tlv(0x30, labels[other], b"\x05\x00" if root is rsa_root else b"")
            if root is rsa_root:
                signature = root.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
            else:
                digest = hashes.SHA256() if root is p256.root else hashes.SHA384()
                signature = root.key.sign(tbs, ec.ECDSA(digest))
            der = tools.tlv(0x30, tbs, algorithm, tools.tlv(3, b"\0", signature))
            chain = [parse_certificate(der, id="x", what="y"), tools.read(root)]
            error = refused(SignatureInvalid, chain, [tools.anchor_of(root)], at)
            assert "algorithm" in error.message

    def test_issuer_on_another_curve(self, p256, at, tools):
        ca = p256.root.issue("CA", ca=True, curve="p521")
        chain = below(tools, ca, p256.root, curve="p256")
        refused(MalformedEvidence, chain, p256.anchors, at)

    def test_issuers_on_both_curves(self, p384, at, tools):
        ca = p384.root.issue("CA", ca=True, curve="p256")
        verify_path(below(tools, ca, p384.root), p384.anchors, at=at, **NAMES)

    @pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
    def test_rsa_anchor(self, rsa_root, at, tools, digest):
        chain = below(tools, rsa_root, signing_hash=digest)
        anchor = tools.anchor_of(rsa_root)
        assert verify_path(chain, [anchor], at=at, **NAMES) is anchor
        assert verify_path(chain[:1], [anchor], at=at, **NAMES) is anchor

    def test_rsa_anchor_that_is_not_self_signed(self, rsa_root, at, tools):
        above = Authority.root("Unpublished CA", curve="p384")
        middle = above.issue("Intermediate", ca=True, key=rsa_root.private_key)
        chain = below(tools, middle, curve="p384")
        assert chain[1].issuer != chain[1].subject
        verify_path(chain, [tools.anchor_of(middle)], at=at, **NAMES)
        refused(ChainInvalid, chain, [tools.anchor_of(rsa_root)], at)

    def test_rsa_intermediate(self, p256, rsa_root, at, tools):
        ca = p256.root.issue("RSA CA", ca=True, key=rsa_root.private_key)
        error = refused(ChainInvalid, below(tools, ca, p256.root), p256.anchors, at)
        assert "RSA" in error.message

    def test_rsa_key_that_is_too_short(self, at, tools):
        root = Authority.root("Short", key=new_key("rsa", bits=1024))
        anchor = tools.anchor_of(root)
        refused(MalformedEvidence, below(tools, root), [anchor], at)
        refused(MalformedEvidence, below(tools, root)[:1], [anchor], at)

    def test_rsa_signature_by_another_key(self, rsa_root, at, tools):
        chain = below(tools, rsa_root, signer=new_key("rsa"))
        refused(SignatureInvalid, chain, [tools.anchor_of(rsa_root)], at)

    def test_rsa_key_with_an_ecdsa_signature_and_the_reverse(self, p256, rsa_root, at, tools):
        chain = below(tools, rsa_root, signer=new_key("p256"))
        refused(SignatureInvalid, chain, [tools.anchor_of(rsa_root)], at)
        chain = below(tools, p256.ca, p256.root, signer=rsa_root.private_key)
        refused(SignatureInvalid, chain, p256.anchors, at)


class TestDates:
    @pytest.mark.parametrize("who", ["leaf", "ca", "root"])
    @pytest.mark.parametrize(
        ("dates", "word"),
        [
            ({"not_after": datetime(2026, 6, 8, tzinfo=UTC)}, "has expired"),
            ({"not_before": datetime(2026, 6, 10, tzinfo=UTC)}, "is not valid yet"),
        ],
    )
    def test_each_certificate(self, at, tools, who, dates, word):
        of = {who: dates}
        root = Authority.root("The root", **of.get("root", {}))
        ca = root.issue("The ca", ca=True, **of.get("ca", {}))
        chain = below(tools, ca, root, **of.get("leaf", {}))
        error = refused(EndorsementUnavailable, chain, [tools.anchor_of(root)], at)
        name = {"leaf": "Test Leaf", "ca": "The ca", "root": "The root"}[who]
        assert f"'{name}' {word} at 2026-06-09T00:00:00Z" in error.message
        assert next(iter(dates.values())).strftime("%Y-%m-%d") in error.got
        assert error.exit_code == 3

    def test_wrong_comes_before_expired(self, p256, at, tools):
        old = datetime(2025, 1, 1, tzinfo=UTC)
        chain = below(tools, p256.ca, p256.root, signer=new_key("p256"), not_after=old)
        refused(SignatureInvalid, chain, p256.anchors, at)

    def test_both_ends_belong_to_the_validity(self, p256):
        second = timedelta(seconds=1)
        verify_path(p256.chain, p256.anchors, at=NOT_BEFORE, **NAMES)
        verify_path(p256.chain, p256.anchors, at=NOT_AFTER, **NAMES)
        for moment in (NOT_BEFORE - second, NOT_AFTER + second):
            refused(EndorsementUnavailable, p256.chain, p256.anchors, moment)


class TestSignedBy:
    def test_it_was(self, p256):
        leaf, ca, root = p256.chain
        verify_signed_by(leaf, ca, **NAMES)
        verify_signed_by(root, root, **NAMES)

    def test_it_was_not(self, p256, tools):
        leaf, _, root = p256.chain
        with pytest.raises(ChainInvalid):
            verify_signed_by(leaf, root, **NAMES)
        twin = p256.root.issue("Test CA", ca=True)
        with pytest.raises(SignatureInvalid):
            verify_signed_by(leaf, tools.read(twin), **NAMES)


def test_names_in_messages_hold_no_control_characters(at, tools, p256):
    root = Authority.root("Evil\x1b[2J\nfake: ok\u202e")
    error = refused(ChainInvalid, below(tools, root), p256.anchors, at)
    text = str(error)
    assert text.isascii()
    assert text.isprintable()


@given(data=st.data())
def test_no_flipped_bit_below_the_root_survives(p256, tools, data):
    at = datetime(2026, 6, 9, tzinfo=UTC)
    line = [p256.leaf.der, p256.ca.der]
    which = data.draw(st.integers(0, 1))
    bit = data.draw(st.integers(0, 8 * len(line[which]) - 1))
    broken = bytearray(line[which])
    broken[bit // 8] ^= 1 << bit % 8
    line[which] = bytes(broken)
    with pytest.raises(TeeVerifyError):
        verify_path(
            [parse_certificate(der, id="x", what="y") for der in line],
            p256.anchors,
            at=at,
            **NAMES,
        )

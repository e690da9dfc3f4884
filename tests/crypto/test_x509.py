"""parse_certificate and parse_pem_chain: strict reading, and what is read."""

from __future__ import annotations

import base64
import re
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from teeverify.crypto.certificates import parse_certificate, parse_pem_chain
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, TeeVerifyError
from teeverify.simulator.authority import NOT_AFTER, NOT_BEFORE, Authority, new_key

NAMES = {"id": "test.certificate", "what": "certificate"}
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


def refused(der):
    with pytest.raises(MalformedEvidence) as caught:
        parse_certificate(der, **NAMES)
    assert caught.value.id == "test.certificate"
    return caught.value


def name(*attributes):
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@pytest.fixture(scope="module")
def make(tools):
    """A well-formed certificate (its signature is nonsense) with parts replaced by other DER."""
    tlv = tools.tlv
    sample = Authority.root("Sample")
    spki = sample.certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    subject = sample.certificate.subject.public_bytes()

    def build(*, after=b"", **changes):
        parts = {
            "version": tlv(0xA0, tlv(2, b"\x02")),
            "serial": tlv(2, b"\x01"),
            "algorithm": tools.ECDSA_SHA256,
            "issuer": subject,
            "validity": tlv(0x30, tlv(0x17, b"240101000000Z"), tlv(0x17, b"491231235959Z")),
            "subject": subject,
            "spki": spki,
            "extensions": b"",
        }
        return tools.signed(parts, after=after, **changes)

    return build


class TestRefused:
    def test_the_pattern_itself_is_accepted(self, make):
        assert parse_certificate(make(), **NAMES).common_name == "Sample"

    @pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x00", b"\x30\x80\x00\x00", b"0" * 100])
    def test_no_certificate(self, der):
        refused(der)

    def test_trailing_data(self, make, p256):
        assert "trailing" in refused(make(after=b"\x00")).message
        refused(p256.leaf.der + p256.leaf.der)

    def test_every_truncation(self, p256):
        for size in range(len(p256.leaf.der)):
            refused(p256.leaf.der[:size])

    def test_too_large_is_refused_before_it_is_read(self):
        error = refused(b"\xff" * (32 * 1024 + 1))
        assert error.have == 32 * 1024 + 1

    @pytest.mark.parametrize("version", [b"", "v1", "v2", "v4", "padded"])
    def test_another_version(self, make, tools, version):
        values = {"v1": b"\x00", "v2": b"\x01", "v4": b"\x03", "padded": b"\x00\x02"}
        der = tools.tlv(0xA0, tools.tlv(2, values[version])) if version else b""
        refused(make(version=der))

    @pytest.mark.parametrize("serial", ["00", "80", "ff", "", "0001", "01" + "ff" * 20])
    def test_serial_number(self, make, tools, serial):
        """Zero, negative, empty, padded and longer than 160 bits (RFC 5280 section 4.1.2.2)."""
        for action in ("error", "ignore"):
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                refused(make(serial=tools.tlv(2, bytes.fromhex(serial))))

    def test_longest_serial_number(self, make, tools):
        """Intel's serial numbers use the top bit of 20 bytes."""
        der = make(serial=tools.tlv(2, b"\x00" + b"\xff" * 20))
        assert parse_certificate(der, **NAMES).serial == 2**160 - 1

    def test_two_algorithms(self, make):
        assert "different" in refused(make(algorithm=ECDSA_SHA384)).message
        assert "different" in refused(make(outer=ECDSA_SHA384)).message

    def test_ecdsa_with_null_parameters(self, make):
        odd = bytes.fromhex("300c06082a8648ce3d0403020500")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "parameters" in refused(make(algorithm=odd, outer=odd)).message

    def test_ecdsa_with_null_parameters_where_warnings_are_ignored(self, make):
        odd = bytes.fromhex("300c06082a8648ce3d0403020500")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert "parameters" in refused(make(algorithm=odd, outer=odd)).message

    def test_signature_with_unused_bits(self, make, tools):
        refused(make(signature=tools.tlv(3, b"\x01\x30\x00")))
        refused(make(signature=tools.tlv(3, b"")))

    def test_indefinite_and_long_lengths(self, make):
        der = make()
        refused(b"\x30\x80" + der[4:] + b"\x00\x00")
        refused(b"\x30\x83\x00" + der[2:])
        refused(b"\x30\x85\x00\x00\x00" + der[2:])

    @pytest.mark.parametrize("date", [b"2401010000Z", b"240101000000+0000", b"241301000000Z", b""])
    def test_dates(self, make, tools, date):
        validity = tools.tlv(0x30, tools.tlv(0x17, date), tools.tlv(0x17, b"491231235959Z"))
        refused(make(validity=validity))

    def test_extension_twice(self, make, tools):
        one = tools.tlv(0x30, tools.tlv(6, b"\x2a\x03"), tools.tlv(4, b"\x05\x00"))
        extensions = tools.tlv(0xA3, tools.tlv(0x30, one, one))
        certificate = parse_certificate(make(extensions=extensions), **NAMES)
        for read in (
            lambda: certificate.is_ca,
            lambda: certificate.key_usage,
            lambda: certificate.extensions.critical,
            lambda: certificate.extension("1.2.3"),
        ):
            with pytest.raises(MalformedEvidence) as caught:
                read()
            assert caught.value.id == "test.certificate"

    @pytest.mark.parametrize("oid", ["2.5.29.19", "2.5.29.15"])
    def test_malformed_constraints(self, p256, tools, oid):
        odd = p256.ca.issue("Odd", ca=None, key_usage=None, extensions=[(oid, b"\xff\x00", True)])
        certificate = tools.read(odd)
        with pytest.raises(MalformedEvidence):
            _ = certificate.is_ca
        with pytest.raises(MalformedEvidence):
            _ = certificate.key_usage

    def test_what_is_not_used_is_not_read(self, p256, tools):
        """No warning either: the library warns of this name, where it is asked to read it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            odd = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "USA", _validate=False)])
            alternative = x509.SubjectAlternativeName([x509.DirectoryName(odd)])
            leaf = p256.ca.issue("Leaf", extensions=[(alternative, False)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            certificate = tools.read(leaf)
            assert not certificate.is_ca
            assert certificate.extension("2.5.29.17") == alternative.public_bytes()


class TestNames:
    def test_names(self, p256, tools):
        certificate = tools.read(p256.leaf)
        assert certificate.common_name == "Test Leaf"
        assert certificate.issuer_common_name == "Test CA"
        assert certificate.subject == p256.leaf.certificate.subject.public_bytes()
        assert certificate.issuer == p256.ca.certificate.subject.public_bytes()

    def test_no_common_name(self, p256, tools):
        leaf = p256.ca.issue("", subject=name((NameOID.ORGANIZATION_NAME, "Only")))
        assert tools.read(leaf).common_name == ""

    def test_two_common_names(self, p256, tools):
        both = name((NameOID.COMMON_NAME, "Intel SGX Root CA"), (NameOID.COMMON_NAME, "Other"))
        certificate = tools.read(p256.ca.issue("", subject=both))
        with pytest.raises(MalformedEvidence, match="more than one common name"):
            _ = certificate.common_name

    def test_two_common_names_in_one_set(self, p256, tools):
        pair = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in ("A", "B")]
        both = x509.Name([x509.RelativeDistinguishedName(pair)])
        with pytest.raises(MalformedEvidence):
            _ = tools.read(p256.ca.issue("", subject=both)).common_name

    def test_text_forms(self, make, tools):
        tlv = tools.tlv

        def subject(tag, value):
            attribute = tlv(0x30, tlv(6, b"\x55\x04\x03"), tlv(tag, value))
            return make(subject=tlv(0x30, tlv(0x31, attribute)))

        def read(der):
            return parse_certificate(der, **NAMES).common_name

        assert read(subject(0x0C, "Ü".encode())) == "Ü"
        assert read(subject(0x13, b"Plain")) == "Plain"
        for tag, value in ((0x0C, b"\xff"), (0x13, b"\xc3\x9c"), (0x1E, b"\x00A"), (0x04, b"A")):
            with pytest.raises(MalformedEvidence):
                read(subject(tag, value))


class TestFields:
    def test_agrees_with_the_library(self, p256, p384, rsa_root, tools):
        for authority in (p256.leaf, p256.ca, p256.root, p384.leaf, rsa_root):
            ours, theirs = tools.read(authority), authority.certificate
            assert ours.der == theirs.public_bytes(Encoding.DER)
            assert ours.serial == theirs.serial_number
            assert ours.subject == theirs.subject.public_bytes()
            assert ours.issuer == theirs.issuer.public_bytes()
            assert (ours.not_before, ours.not_after) == (NOT_BEFORE, NOT_AFTER)
            assert ours.signed.tbs == theirs.tbs_certificate_bytes
            assert ours.signed.signature == theirs.signature
            assert ours.public_key == theirs.public_key()
            assert ours.spki == theirs.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )

    def test_constraints(self, p256, tools):
        leaf, ca, root = (tools.read(a) for a in (p256.leaf, p256.ca, p256.root))
        assert (leaf.is_ca, ca.is_ca, root.is_ca) == (False, True, True)
        assert (
            leaf.extensions.path_length,
            ca.extensions.path_length,
            root.extensions.path_length,
        ) == (None, 0, None)
        assert leaf.key_usage == {"digital_signature"}
        assert ca.key_usage == {"key_cert_sign", "crl_sign"}
        assert ca.extensions.critical == {"2.5.29.15", "2.5.29.19"}

    def test_absent_constraints_are_the_safe_ones(self, p256, tools):
        bare = tools.read(p256.ca.issue("Bare", ca=None, key_usage=None))
        assert not bare.is_ca
        assert bare.key_usage == frozenset()
        assert bare.extensions.critical == frozenset()

    def test_extension_values(self, p256, tools):
        odd = ("1.2.840.113741.1.13.1", b"\x30\x03\x02\x01\x05", False)
        certificate = tools.read(p256.ca.issue("Leaf", extensions=[odd]))
        assert certificate.extension("1.2.840.113741.1.13.1") == b"\x30\x03\x02\x01\x05"
        assert certificate.extension("2.5.29.19") == bytes.fromhex("3000")
        assert certificate.extension("1.2.3.4") is None
        with pytest.raises(MalformedEvidence):
            certificate.extension("no oid")

    def test_fingerprint_and_equality(self, p256, tools):
        one, other = tools.read(p256.leaf), tools.read(p256.leaf, what="read again")
        assert one == other
        assert len({one, other}) == 1
        assert one != tools.read(p256.ca)
        assert re.fullmatch("[0-9a-f]{64}", one.sha256)

    def test_message_names_where(self, p256):
        error = refused(p256.leaf.der[:40])
        assert error.field.startswith("certificate")
        assert error.offset is not None


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP521R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ed25519.Ed25519PrivateKey.generate(),
            new_key("rsa", bits=1024),
        ],
        ids=["p521", "secp256k1", "ed25519", "rsa1024"],
    )
    def test_other_kinds(self, p256, tools, key):
        certificate = tools.read(p256.ca.issue("Leaf", public_key=key.public_key()))
        with pytest.raises(MalformedEvidence) as caught:
            _ = certificate.public_key
        assert caught.value.id == "test.certificate"

    def test_point_not_on_the_curve(self, make, p256, tools):
        spki = bytearray(tools.read(p256.leaf).spki)
        spki[-1] ^= 1
        with pytest.raises(MalformedEvidence):
            _ = parse_certificate(make(spki=bytes(spki)), **NAMES).public_key

    def test_compressed_point(self, make, p256):
        point = p256.leaf.certificate.public_key().public_bytes(
            Encoding.X962, PublicFormat.CompressedPoint
        )
        spki = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
        with pytest.raises(MalformedEvidence):
            _ = parse_certificate(make(spki=spki), **NAMES).public_key


class TestPem:
    def read(self, pem, **more):
        return parse_pem_chain(pem, id="test.pem", what="chain", **more)

    def refused(self, pem, **more):
        with pytest.raises(MalformedEvidence) as caught:
            self.read(pem, **more)
        assert caught.value.id == "test.pem"

    @pytest.fixture
    def pem(self, p256):
        return p256.leaf.pem + p256.ca.pem + p256.root.pem

    def test_chain(self, pem, p256):
        assert [c.der for c in self.read(pem)] == [p256.leaf.der, p256.ca.der, p256.root.der]
        assert self.read(pem.decode("ascii")) == self.read(pem)

    def test_white_space_and_line_ends(self, pem):
        assert self.read(b"\n \r\n\t" + pem.replace(b"\n", b"\r\n") + b"\n\n") == self.read(pem)
        assert self.read(pem.rstrip()) == self.read(pem)

    @pytest.mark.parametrize("text", [b"", b" \n", b"-----BEGIN CERTIFICATE-----", b"\x00"])
    def test_nothing(self, text):
        self.refused(text)

    def test_text_around_blocks(self, pem, p256):
        self.refused(b"subject=x\n" + pem)
        self.refused(pem + b"x")
        self.refused(p256.leaf.pem + b"issuer\n" + p256.ca.pem)
        self.refused(pem + b"\xff")
        self.refused(pem.decode("ascii") + "\u00a0")
        self.refused(pem + b"\x0b")

    def test_trailing_nul_only_where_it_is_allowed_and_only_one(self, pem):
        self.refused(pem + b"\0")
        assert self.read(pem + b"\0", trailing_nul=True) == self.read(pem)
        assert self.read(pem.decode("ascii") + "\0", trailing_nul=True) == self.read(pem)
        assert self.read(pem, trailing_nul=True) == self.read(pem)
        assert self.read(pem.rstrip(), trailing_nul=True) == self.read(pem)
        self.refused(pem + b"\0\0", trailing_nul=True)
        self.refused(pem + b"\0\n", trailing_nul=True)
        self.refused(b"\0", trailing_nul=True)

    def test_other_labels(self, pem):
        self.refused(pem.replace(b"CERTIFICATE", b"X509 CRL"))
        self.refused(pem.replace(b"CERTIFICATE", b"certificate"))
        self.refused(pem.replace(b"-----BEGIN CERTIFICATE-----", b"-" * 27, 1))
        self.refused(pem.replace(b"-----END CERTIFICATE-----", b"-" * 25, 1))
        self.refused(pem.replace(b"BEGIN CERTIFICATE", b"BEGIN TRUSTED CERTIFICATE"))
        self.refused(pem.replace(b"END CERTIFICATE", b"END X509 CRL"))
        self.refused(pem.replace(b"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----", b""))

    def test_bodies(self, pem, p256):
        if b"=" in pem:
            self.refused(pem.replace(b"=", b""))
        self.refused(pem.replace(b"-----\nMII", b"-----\nM!II"))
        self.refused(pem.replace(b"-----\nMII", b"-----\nProc-Type: 4\n\nMII"))
        self.refused(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
        double = base64.encodebytes(p256.leaf.der + p256.ca.der)
        self.refused(b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % double)

    def test_caps(self, pem):
        self.refused(pem, max_certificates=2)
        assert len(self.read(pem, max_certificates=3)) == 3
        with pytest.raises(MalformedEvidence, match="too large"):
            self.read(pem + b" " * (8 * 64 * 1024))
        self.refused(pem * 3)

    def test_error_names_the_certificate(self, pem, p256):
        broken = p256.leaf.pem + p256.ca.pem.replace(b"-----\nMII", b"-----\nMIA")
        with pytest.raises(MalformedEvidence, match=r"chain\[1\]"):
            self.read(broken)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    for read in (parse_certificate, parse_pem_chain):
        with pytest.raises(TeeVerifyError):
            read(data, **NAMES)


@given(data=st.data())
def test_any_change_gives_a_certificate_or_our_error(p256, data):
    der = bytearray(p256.leaf.der)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        certificate = parse_certificate(bytes(der), **NAMES)
        _ = certificate.common_name, certificate.issuer_common_name, certificate.public_key
        _ = certificate.is_ca, certificate.key_usage, certificate.extensions.path_length
        _ = certificate.extensions.critical, certificate.extension("2.5.29.14")
    except TeeVerifyError:
        pass


@given(text=st.text(max_size=60))
def test_any_text_is_no_chain(text):
    with pytest.raises(TeeVerifyError):
        parse_pem_chain(text, **NAMES)


@given(data=st.data())
def test_nothing_is_accepted_that_the_library_refuses(p256, data):
    """Parts are cut out by hand; what they are is for the library's strict reader to say."""
    der = bytearray(p256.ca.der)
    for _ in range(data.draw(st.integers(1, 2))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = parse_certificate(bytes(der), **NAMES)
        constraints = ours.is_ca, ours.extensions.path_length
        usage, critical = ours.key_usage, ours.extensions.critical
    except MalformedEvidence:
        return
    theirs = x509.load_der_x509_certificate(bytes(der))
    assert ours.serial == theirs.serial_number
    assert ours.signed.tbs == theirs.tbs_certificate_bytes
    assert ours.signed.signature == theirs.signature
    try:
        names = theirs.subject.public_bytes(), theirs.issuer.public_bytes()
        extensions = theirs.extensions
    except FOREIGN_ERRORS:
        return  # a name's text, or an extension, that is not used here
    assert (ours.subject, ours.issuer) == names
    found = {extension.oid.dotted_string: extension for extension in extensions}
    assert critical == {name for name, extension in found.items() if extension.critical}
    basic, used = found.get("2.5.29.19"), found.get("2.5.29.15")
    assert constraints == ((basic.value.ca, basic.value.path_length) if basic else (False, None))
    assert ("key_cert_sign" in usage) == (used is not None and used.value.key_cert_sign)
    assert ("crl_sign" in usage) == (used is not None and used.value.crl_sign)


@pytest.mark.parametrize("size", [0, 1, 20, 90, 100, 110, 117, 118, 119, 126, 200])
def test_a_common_name_of_any_length(make, tools, size):
    """Short names have a quick way of their own."""
    tlv, text = tools.tlv, b"x" * size
    named = tlv(0x31, tlv(0x30, tlv(6, b"\x55\x04\x03"), tlv(0x0C, text)))
    other = tlv(0x31, tlv(0x30, tlv(6, b"\x55\x04\x0a"), tlv(0x0C, b"Org")))
    for rows in ((named,), (named, other), (other, named)):
        der = make(subject=tlv(0x30, *rows))
        assert parse_certificate(der, **NAMES).common_name == text.decode()

"""Trust anchors: written down, whole, and the same that the vendors' certificates carry."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from teeverify.crypto.certificates import parse_certificate
from teeverify.errors import ConfigurationError
from teeverify.roots import EMBEDDED, TrustAnchor, UnsafeTestRoots, amd, custom_roots, vendors
from teeverify.simulator.authority import Authority

ROOTS = {
    "intel": vendors.INTEL_SGX_ROOT,
    "device": vendors.NVIDIA_DEVICE_IDENTITY,
    "rim": vendors.NVIDIA_CORIM_SIGNING,
    "nras": vendors.NVIDIA_NRAS_INTERMEDIATE_004,
    # These are compared with AMD's certificates in tests/snp/test_vectors.py.
    "milan": amd.ARK_MILAN,
    "genoa": amd.ARK_GENOA,
    "turin": amd.ARK_TURIN,
    **{intermediate.name: intermediate for intermediate in amd.AMD_INTERMEDIATES},
}
FIELDS = ("intel", "amd", "nvidia_device", "nvidia_rim", "nvidia_nras")


def refused(act):
    with pytest.raises(ConfigurationError) as caught:
        act()
    assert caught.value.id == "usage.roots"
    return caught.value


class TestEmbedded:
    @pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS)
    def test_data_is_whole(self, root):
        anchor = TrustAnchor(**root.anchor())
        key = load_der_public_key(anchor.spki)
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        assert key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == anchor.spki
        # The name that people read is the common name of the name that is compared.
        common_name = root.name.encode()
        if root is not vendors.NVIDIA_CORIM_SIGNING:
            assert common_name in anchor.subject
        assert anchor.subject[0] == 0x30
        assert anchor.fingerprint == hashlib.sha256(anchor.spki).hexdigest()
        assert len(bytes.fromhex(root.certificate_sha256)) == 32
        assert root.url.startswith("https://")
        assert root.not_before < root.not_after

    def test_each_vendor_has_its_own(self):
        anchors = [anchor for name in FIELDS for anchor in getattr(EMBEDDED, name)]
        assert EMBEDDED.kind == "embedded"
        assert len(anchors) == 7
        assert len({anchor.spki for anchor in anchors}) == 7
        assert not any(b"simulator" in anchor.subject for anchor in anchors)

    def test_cannot_be_changed(self):
        with pytest.raises(AttributeError):
            EMBEDDED.kind = "custom"
        with pytest.raises(AttributeError):
            EMBEDDED.intel[0].spki = b""


def same(root, certificate):
    """Whether a recorded certificate is the one that is written down."""
    der = certificate.public_bytes(Encoding.DER)
    ours = parse_certificate(der, id="test.roots", what="root")
    assert hashlib.sha256(der).hexdigest() == root.certificate_sha256
    assert ours.subject.hex() == root.subject_hex
    assert ours.spki.hex() == root.spki_hex
    assert f"{ours.not_before:%Y-%m-%d}" == root.not_before
    assert f"{ours.not_after:%Y-%m-%d}" == root.not_after


@pytest.mark.vectors
class TestRecorded:
    def test_intel(self, vectors):
        der = (vectors / "tdx" / "intel_sgx_root_ca.der").read_bytes()
        same(vendors.INTEL_SGX_ROOT, x509.load_der_x509_certificate(der))

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("device", "nvidia_device_identity_ca.pem"),
            ("rim", "nvidia_corim_signing_root_ca.pem"),
        ],
    )
    def test_nvidia(self, vectors, name, file):
        pem = (vectors / "nvidia" / "certs" / file).read_bytes()
        same(ROOTS[name], x509.load_pem_x509_certificate(pem))

    def test_nras(self, vectors):
        found = 0
        for path in (vectors / "nvidia" / "nras").glob("*/jwks.json"):
            for key in json.loads(path.read_text())["keys"]:
                der = base64.b64decode(key["x5c"][-1])
                same(vendors.NVIDIA_NRAS_INTERMEDIATE_004, x509.load_der_x509_certificate(der))
                found += 1
        assert found


@pytest.mark.parametrize(
    ("name", "file"),
    [("device", "verifier_device_root.pem"), ("rim", "verifier_RIM_root.pem")],
)
def test_roots_of_nvidias_own_package(name, file):
    """Found by its file list: importing that package writes log files."""
    try:
        files = importlib.metadata.files("nv-local-gpu-verifier") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nv-local-gpu-verifier is not installed")
    paths = [Path(entry.locate()) for entry in files if entry.name == file]
    assert paths
    for path in paths:
        same(ROOTS[name], x509.load_pem_x509_certificate(path.read_bytes()))


@pytest.fixture(scope="module")
def root():
    return Authority.root("Own Root")


class TestCustom:
    @pytest.mark.parametrize("form", ["certificate", "der", "pem", "text"])
    def test_forms(self, root, form):
        item = {
            "certificate": root.certificate,
            "der": root.der,
            "pem": root.pem,
            "text": root.pem.decode(),
        }[form]
        roots = custom_roots([item])
        assert roots.kind == "custom"
        for field in FIELDS:
            [anchor] = getattr(roots, field)
            assert anchor.subject == root.certificate.subject.public_bytes()
            assert "Own Root" in anchor.name
            assert anchor.spki not in {a.spki for a in getattr(EMBEDDED, field)}

    def test_several(self, root):
        other = Authority.root("Other Root")
        assert len(custom_roots([root.pem + other.pem]).intel) == 2
        assert len(custom_roots([root.der, other.pem]).intel) == 2

    @pytest.mark.parametrize(
        "items",
        [
            [],
            [b""],
            [""],
            [b"garbage"],
            ["-----BEGIN CERTIFICATE-----"],
            [None],
            [5],
            b"bytes",
            "text",
            ["\ud800"],
        ],
        ids=repr,
    )
    def test_refused(self, items):
        refused(lambda: custom_roots(items))

    def test_too_many(self, root):
        assert len(custom_roots([root.der] * 16).intel) == 16
        refused(lambda: custom_roots([root.der] * 17))
        refused(lambda: custom_roots([root.pem * 17]))

    def test_key_that_cannot_be_read(self, root):
        broken = root.der.replace(bytes.fromhex("06082a8648ce3d030107"), b"\x06\x08" + b"\x2a" * 8)
        refused(lambda: custom_roots([broken]))


class TestUnsafeTestRoots:
    def test_simulated(self, tmp_path):
        root = Authority.root("Intel SGX Root CA")
        path = tmp_path / "roots.pem"
        path.write_bytes(root.pem)
        for roots in (UnsafeTestRoots.load(path), UnsafeTestRoots.load(str(path))):
            assert roots.roots.kind == "simulated"
            assert len(roots.roots.intel) == 1
            assert "proves nothing" in repr(roots)

    def test_no_file(self, tmp_path):
        refused(lambda: UnsafeTestRoots.load(tmp_path / "absent.pem"))
        refused(lambda: UnsafeTestRoots.load(tmp_path))
        refused(lambda: UnsafeTestRoots.load("a\0b"))

    def test_no_roots(self, tmp_path):
        path = tmp_path / "roots.pem"
        for data in (b"", b"text", b"\xff" * 100):
            path.write_bytes(data)
            refused(lambda: UnsafeTestRoots.load(path))
        refused(lambda: UnsafeTestRoots([]))

    def test_too_large(self, tmp_path):
        path = tmp_path / "roots.pem"
        path.write_bytes(b" " * (64 * 1024 + 1))
        assert "too large" in refused(lambda: UnsafeTestRoots.load(path)).message

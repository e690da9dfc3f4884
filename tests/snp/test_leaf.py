"""Certificates of chips and clouds: every extension in its one form, and serial number 0."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import snp
from teeverify.errors import MalformedEvidence
from teeverify.simulator import amd_certificates as made
from teeverify.simulator.authority import Authority

ARC = "1.3.6.1.4.1.3704.1"


def refused(der, text=""):
    with pytest.raises(MalformedEvidence) as caught:
        snp.parse_leaf(der)
    assert caught.value.id == "snp.leaf"
    assert text in caught.value.message
    return caught.value


def extensions(forge, **overrides):
    amd = forge.amd
    turin = amd.product is snp.Product.TURIN
    return made.leaf_extensions(
        **{
            "layout": "turin" if turin else "classic", "struct_version": int(turin),
            "product_name": str(amd.product), "tcb": amd.tcb, "hwid": amd.hwid, "csp_id": None,
            **overrides,
        }
    )  # fmt: skip


def test_fields(each):
    amd = each.amd
    leaf = snp.parse_leaf(amd.vcek)
    assert (leaf.signer, leaf.product) == (snp.Signer.VCEK, amd.product)
    assert leaf.tcb.components == amd.tcb
    assert (leaf.hwid, leaf.csp_id) == (amd.hwid, None)
    assert leaf.public_key.public_numbers() == amd.vcek_key.public_key().public_numbers()
    cloud = snp.parse_leaf(amd.vlek)
    assert (cloud.signer, cloud.hwid) == (snp.Signer.VLEK, None)
    assert cloud.csp_id == "CN=cc-simulated.example.com"
    assert leaf.sha256 != cloud.sha256


def test_serial_0_is_read(each, monkeypatch):
    """Where the library refuses it: it is never asked."""

    def refuse(*_args, **_kwargs):
        raise ValueError("serial number must be positive")

    for name in ("load_der_x509_certificate", "load_pem_x509_certificate"):
        monkeypatch.setattr(x509, name, refuse)
    assert snp.parse_leaf(each.amd.vcek).signer is snp.Signer.VCEK


def test_serial(forge):
    assert snp.parse_leaf(forge.amd.leaf("vcek", serial=5))
    refused(forge.amd.leaf("vcek", serial=-1), "serial")


@pytest.mark.parametrize("first", [0x00, 0x02, 0x04, 0x30, 0xFF])
def test_hwid_raw_or_wrapped_by_length_never_by_first_byte(each, first):
    size = each.amd.product.chip_id_bytes
    for hwid in (bytes([first]) * size, bytes([first, size - 2]) + b"\x01" * (size - 2)):
        for wrap in (False, True):
            assert snp.parse_leaf(each.amd.leaf("vcek", hwid=hwid, wrap_hwid=wrap)).hwid == hwid


@pytest.mark.parametrize("size", [0, 1, 7, 9, 63, 65, 67, 128])
def test_hwid_of_another_length(each, size):
    refused(each.amd.leaf("vcek", hwid=bytes(size)))
    refused(each.amd.leaf("vcek", hwid=bytes(size), wrap_hwid=True))


def test_hwid_of_another_product(forges):
    refused(forges["Turin"].amd.leaf("vcek", hwid=bytes(64)))
    refused(forges["Milan"].amd.leaf("vcek", hwid=bytes(8)))


def test_a_vcek_names_its_chip_and_a_vlek_its_cloud(each):
    amd = each.amd
    refused(amd.leaf("vcek", hwid=None), "extensions")
    refused(amd.leaf("vcek", csp_id="CN=x"), "extensions")
    refused(amd.leaf("vlek", csp_id=None), "extensions")
    refused(amd.leaf("vlek", hwid=amd.hwid), "extensions")


def test_every_extension_is_needed_once(each):
    whole = extensions(each)
    for index, (oid, value) in enumerate(whole):
        refused(each.amd.leaf("vcek", extensions=whole[:index] + whole[index + 1 :]))
        refused(each.amd.leaf("vcek", extensions=[*whole, (oid, value)]), "twice")
        refused(each.amd.leaf("vcek", extensions=whole, critical=[oid]), "critical")
        if not oid.endswith(".4"):
            longer = [(o, v + b"\0" if o == oid else v) for o, v in whole]
            refused(each.amd.leaf("vcek", extensions=longer))


def test_unknown_extensions(forge):
    whole = extensions(forge)
    refused(forge.amd.leaf("vcek", extensions=[*whole, (f"{ARC}.3.9", b"\x02\x01\x00")]))
    refused(forge.amd.leaf("vcek", extensions=[*whole, (f"{ARC}.9", b"\x02\x01\x00")]))
    assert snp.parse_leaf(forge.amd.leaf("vcek", extensions=[*whole, ("2.5.29.35", b"\x30\0")]))


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\x02\x00", b"\x02\x02\x00\x05", b"\x02\x01\xff", b"\x02\x02\x01\x00", b"\x05\x00",
        b"\x04\x01\x05", b"\x02\x01\x05\x00", b"\x02\x02\x00\xdb\x00", b"\x02",
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_versions_are_one_byte_in_their_shortest_form(forge, value):
    changed = [(o, value if o == f"{ARC}.3.3" else v) for o, v in extensions(forge)]
    refused(forge.amd.leaf("vcek", extensions=changed))


@pytest.mark.parametrize("spl", ["spl4", "spl5", "spl6", "spl7"])
def test_reserved_versions_are_zero(forge, spl):
    refused(forge.amd.leaf("vcek", tcb={**forge.amd.tcb, spl: 1}), "reserved")


def test_microcode_above_127(forge):
    assert snp.parse_leaf(forge.amd.leaf("vcek", tcb={**forge.amd.tcb, "microcode": 0xDB}))


def test_struct_version_and_name_fit_the_product(each):
    amd = each.amd
    turin = amd.product is snp.Product.TURIN
    refused(amd.leaf("vcek", struct_version=0 if turin else 1), "structVersion")
    refused(amd.leaf("vcek", struct_version=2), "structVersion")
    for name in (
        "Venice",
        "",
        "Milan-B0" if amd.product is not snp.Product.MILAN else "Genoa",
        f"{amd.product}-",
        f"{amd.product}\0",
        f"-{amd.product}",
        "Rome-B0",
    ):
        refused(amd.leaf("vcek", product_name=name))
    for name in (str(amd.product), f"{amd.product}-B1", f"{amd.product}-X-B2", "Sorano-A0"):
        assert snp.parse_leaf(amd.leaf("vcek", product_name=name)).product_name == name


def test_siena_and_bergamo_are_certified_under_genoa(forges):
    for name in ("Siena", "Bergamo", "Siena-B0"):
        leaf = snp.parse_leaf(forges["Genoa"].amd.leaf("vcek", product_name=name))
        assert leaf.product is snp.Product.GENOA


def test_names(forge):
    amd = forge.amd
    refused(amd.leaf("vcek", common_name="SEV-ASK"), "VCEK or VLEK")
    refused(amd.leaf("vcek", common_name="SEV-VCEKx"))
    refused(amd.leaf("vcek", issuer_name="SEV-Venice"), "no CA")
    refused(amd.leaf("vcek", issuer_name="SEV-VLEK-Milan"), "no CA")
    refused(amd.leaf("vlek", issuer_name="SEV-Milan"), "no CA")


def test_another_algorithm_or_version(forge):
    amd = forge.amd
    pkcs1 = bytes.fromhex("300d06092a864886f70d01010c0500")
    refused(amd.leaf("vcek", algorithm=pkcs1), "algorithm")
    refused(amd.leaf("vcek", version=1), "version 3")


def test_another_key(forge):
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = snp.parse_leaf(forge.amd.leaf("vcek", public_key=key.public_key()))
    with pytest.raises(MalformedEvidence):
        _ = leaf.public_key


def test_every_truncation(forge):
    der = forge.amd.vcek
    for size in range(0, len(der), 7):
        refused(der[:size])
    refused(der + b"\0")
    refused(b"\x30" * 9000, "too large")


def test_a_certificate_of_another_vendor():
    refused(Authority.root("Intel SGX Root CA").der)

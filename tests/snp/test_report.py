"""Reports: every field is where it must be, and every reserved bit is zero."""

from __future__ import annotations

import pytest

from teeverify import snp
from teeverify.errors import MalformedEvidence
from teeverify.snp.product import name_of_cpu, product_of_cpu


def refused(raw, field):
    with pytest.raises(MalformedEvidence) as caught:
        snp.parse_report(raw)
    assert caught.value.id == "snp.report"
    assert field in caught.value.field
    return caught.value


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_fields(each, version):
    amd = each.amd
    mitigations = {"launch_mit_vector": 0x3F, "current_mit_vector": 0x7F} if version == 5 else {}
    raw = amd.report(
        version=version, guest_svn=0x1000B, policy=0x3001F, family_id=b"f" * 16,
        image_id=b"i" * 16, vmpl=1, platform_info=0x65, report_data=bytes(range(64)),
        measurement=b"m" * 48, host_data=b"h" * 32, id_key_digest=b"k" * 48,
        author_key_digest=b"a" * 48, report_id=b"r" * 32, key_info=1,
        current_version=bytes([3, 49, 1]), committed_version=bytes([2, 49, 1]),
        current_tcb={"snp": 40}, launch_tcb={"snp": 39}, **mitigations,
    )  # fmt: skip
    report = snp.parse_report(raw)
    assert report.raw == raw
    assert report.signed_bytes == raw[:0x2A0]
    assert (report.version, report.guest_svn, report.vmpl) == (version, 0x1000B, 1)
    assert (report.policy.abi_major, report.policy.abi_minor) == (0, 0x1F)
    assert (report.family_id, report.image_id) == (b"f" * 16, b"i" * 16)
    assert report.report_data == bytes(range(64))
    assert report.measurement == b"m" * 48
    assert report.host_data == b"h" * 32
    assert (report.id_key_digest, report.author_key_digest) == (b"k" * 48, b"a" * 48)
    assert (report.author_key_enabled, report.chip_key_masked) == (True, False)
    assert report.signer is snp.Signer.VCEK
    assert report.report_id_ma == b"\xff" * 32
    assert str(report.current) == "1.49.3"
    assert report.current > report.committed
    assert report.tcb("current", amd.product).snp == 40
    assert report.tcb("launch", amd.product).snp == 39
    assert report.tcb("reported", amd.product).components == amd.tcb
    assert report.product is (None if version == 2 else amd.product)
    assert report.current_mitigations == (0x7F if version == 5 else None)
    assert report.launch_mitigations == (0x3F if version == 5 else None)
    assert not report.chip_id_masked
    assert len(report.signature) == 96


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1183, 1185, 4000])
def test_length(forge, size):
    raw = (forge.amd.report() * 4)[:size]
    refused(raw, "snp.report")


@pytest.mark.parametrize("thing", [None, 5, "text", [1, 2]])
def test_not_bytes(thing):
    refused(thing, "snp.report")


@pytest.mark.parametrize("version", [0, 1, 6, 7, 0xFFFFFFFF])
def test_unknown_version(forge, version):
    error = refused(forge.amd.report(version=version), "version")
    assert error.got == str(version)


def test_unknown_algorithm(forge):
    for value in (0, 2, 0xFFFFFFFF):
        refused(forge.amd.report(signature_algo=value), "signature_algo")


@pytest.mark.parametrize("policy", [0, 0x10000, 1 << 17 | 1 << 26, 1 << 17 | 1 << 63])
def test_policy(forge, policy):
    refused(forge.amd.report(policy=policy), "policy")


@pytest.mark.parametrize("vmpl", [4, 0xFFFFFFFE])
def test_vmpl(forge, vmpl):
    refused(forge.amd.report(vmpl=vmpl), "vmpl")


def test_made_by_the_host(forge):
    assert snp.parse_report(forge.amd.report(vmpl=0xFFFFFFFF)).made_by_host


@pytest.mark.parametrize("bit", range(5, 32))
def test_reserved_key_info(forge, bit):
    refused(forge.amd.report(key_info=1 << bit), "key_info")


RESERVED = {
    2: [*range(0x4C, 0x50), *range(0x188, 0x1A0), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0)],
    3: [*range(0x4C, 0x50), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0)],
    4: [*range(0x4C, 0x50), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0)],
    5: [*range(0x4C, 0x50), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0)],
}


@pytest.mark.parametrize("version", RESERVED)
def test_every_reserved_byte(forge, version):
    raw = forge.amd.report(version=version)
    for offset in [*RESERVED[version], *range(0x2D0, 0x2E8), *range(0x318, 0x4A0)]:
        changed = bytearray(raw)
        changed[offset] = 1
        error = refused(bytes(changed), "snp.report.")
        assert "reserved bytes" in error.message


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, "Milan"), (0x19, 0x0F, "Milan"), (0x19, 0x10, "Genoa"),
        (0x19, 0x11, "Genoa"), (0x19, 0x1F, "Genoa"), (0x19, 0xA0, "Genoa"),
        (0x19, 0xAF, "Genoa"), (0x1A, 0x00, "Turin"), (0x1A, 0x02, "Turin"),
        (0x1A, 0x11, "Turin"), (0x1A, 0x1F, "Turin"), (0x19, 0x20, None), (0x19, 0x9F, None),
        (0x19, 0xB0, None), (0x17, 0x31, None), (0x1A, 0x20, None), (0x1A, 0x50, None),
        (0, 0, None),
    ],
)  # fmt: skip
def test_product_of_cpu(family, model, product):
    found = product_of_cpu(family, model)
    assert (found and str(found)) == product


def test_venice_is_named():
    assert name_of_cpu(0x1A, 0x50).startswith("Venice")
    assert "Venice" not in name_of_cpu(0x19, 0x50)


def test_policy_bits_have_two_polarities():
    policy = snp.GuestPolicy(0b11_1111_1011 << 16 | 1 << 18)
    assert policy.permits == {"smt", "migrate_ma", "debug", "cxl"}
    assert policy.requires == {
        "single_socket", "mem_aes_256_xts", "rapl_disabled", "ciphertext_hiding",
        "page_swap_disabled",
    }  # fmt: skip
    assert snp.GuestPolicy(1 << 17).permits == snp.GuestPolicy(1 << 17).requires == frozenset()


def test_tcb_is_compared_by_component():
    low = snp.TcbVersion(product=snp.Product.MILAN, bootloader=4, tee=0, snp=24, microcode=219)
    assert low.below({"snp": 24, "microcode": 219}) == ()
    assert low.below({"snp": 25}) == ("snp",)
    assert low.below({"snp": 25, "bootloader": 4, "microcode": 255}) == ("snp", "microcode")
    assert low.below({"fmc": 0}) == ("fmc",)
    assert "fmc" not in low.components
    assert low.to_bytes() == bytes.fromhex("04000000000018db")
    turin = snp.TcbVersion(
        product=snp.Product.TURIN, fmc=1, bootloader=1, tee=1, snp=4, microcode=0x51
    )
    assert turin.to_bytes() == bytes.fromhex("0101010400000051")


@pytest.mark.parametrize("name", ["current", "reported", "committed", "launch"])
@pytest.mark.parametrize("offset", range(8))
def test_reserved_bytes_of_a_tcb(each, name, offset):
    product = each.amd.product
    reserved = (4, 5, 6) if product is snp.Product.TURIN else (2, 3, 4, 5)
    raw = bytearray(each.amd.tcb_bytes())
    raw[offset] |= 1
    report = snp.parse_report(each.amd.report(**{f"{name}_tcb": bytes(raw)}))
    if offset not in reserved:
        assert report.tcb(name, product).to_bytes() == bytes(raw)
        return
    with pytest.raises(MalformedEvidence, match="reserved"):
        report.tcb(name, product)

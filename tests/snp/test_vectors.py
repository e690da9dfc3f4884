"""Real reports of many machines: every row and cross case of the vectors' manifest."""

from __future__ import annotations

import base64
import json

import pytest

from teeverify import snp
from teeverify.crypto.certificates import parse_pem_chain
from teeverify.crypto.crl import parse_crl, verify_crl_of_anchor
from teeverify.errors import (
    ChainInvalid,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.roots import EMBEDDED, amd
from teeverify.roots.amd import AMD_INTERMEDIATES
from teeverify.snp.azure import parse_hcl_report

from ..refusals import refused

pytestmark = pytest.mark.vectors

AT = "2026-09-01T00:00:00Z"  # when the recorded revocation lists were in force
IN_2025 = "2025-06-01T00:00:00Z"
TODAY = "2026-11-22T00:00:00Z"
CRLS = {"milan": "crl/milan_vcek.crl", "genoa": "crl/genoa_vcek.crl", "turin": "crl/turin_vcek.crl"}
GOOD = {
    "milan_v3": ("milan_v3/report.bin", "milan_v3/vcek.pem", "milan"),
    "genoa_v3": ("genoa_v3/report.bin", "genoa_v3/vcek.pem", "genoa"),
    "turin_v5": ("turin_v5/report.bin", "turin_v5/vcek.pem", "turin"),
}


class Vectors:
    def __init__(self, folder):
        self.folder = folder / "snp"

    def read(self, name):
        return (self.folder / name).read_bytes()

    def endorsements(self, *names):
        return snp.Endorsements.union(
            *(snp.Endorsements.load(self.folder / name) for name in names)
        )

    def verify(self, report, *names, at=AT, **options):
        raw = report if isinstance(report, bytes) else self.read(report)
        return snp.verify_report(raw, self.endorsements(*names), at=at, **options)


@pytest.fixture(scope="module")
def real(vectors):
    return Vectors(vectors)


class TestAccepted:
    @pytest.mark.parametrize("name", GOOD)
    def test_with_pinned_cas(self, real, name):
        report, vcek, product = GOOD[name]
        claims = real.verify(report, vcek, CRLS[product])
        assert claims.roots_kind == "embedded"
        assert claims.product.value.lower() == product
        assert claims.crl is not None

    @pytest.mark.parametrize("name", GOOD)
    def test_with_the_cas_that_came_along(self, real, name):
        report, vcek, product = GOOD[name]
        chain = f"roots/ask_ark_{product}{'_vcek' if product == 'turin' else ''}.pem"
        assert real.verify(report, vcek, chain, CRLS[product])

    def test_azure_chain_in_pem(self, real):
        raw = parse_hcl_report(real.read("azure/hcl_report_milan_v2.bin")).report
        claims = real.verify(raw, "azure/vcek_chain_milan_v2.pem", CRLS["milan"])
        assert claims.report.version == 2
        assert claims.product is snp.Product.MILAN
        assert claims.provisional

    def test_milan_v2_is_genuine_but_in_debug(self, real):
        names = ("milan_v2/report.bin", "milan_v2/vcek.der", CRLS["milan"])
        refused(DebugEnabled, "snp.debug-disabled", lambda: real.verify(*names))
        claims = real.verify(*names, unsafe_allow_debug=True)
        assert claims.report_data[:5] == bytes([1, 2, 3, 4, 5])

    def test_vlek_of_aws(self, real):
        names = ("milan_v3_vlek_aws/report.bin", "milan_v3_vlek_aws/vlek.der")
        for chain in ((), ("roots/ask_ark_milan_vlek.pem",)):
            claims = real.verify(*names, *chain, at=IN_2025, unsafe_without_crl=True)
            assert claims.signer is snp.Signer.VLEK
            assert claims.csp_id == "CN=cc-us-east-2.amazonaws.com"
            assert claims.chip_id is None
            assert claims.provisional
            assert claims.report.vmpl == 1
        refused(EndorsementUnavailable, "snp.crl", lambda: real.verify(*names, at=IN_2025))

    def test_turin(self, real):
        claims = real.verify(*GOOD["turin_v5"][:2], CRLS["turin"])
        assert str(claims.reported_tcb) == "fmc=1 bootloader=1 tee=1 snp=4 microcode=81"
        assert claims.report.launch_mitigations == claims.report.current_mitigations == 0x3F
        assert claims.platform_info.unknown_bits == (6,)
        assert len(claims.chip_id) == 8

    @pytest.mark.parametrize("table", ["certtable_genoa", "certtable_genoa_mixed_endian"])
    def test_certificate_table(self, real, table):
        name = f"synthetic/{table}.bin"
        entries = snp.parse_certificate_table(real.read(name)).entries
        assert [entry for entry, _ in entries] == ["vcek", "ask", "ark"]
        assert real.verify("genoa_v3/report.bin", name, CRLS["genoa"])

    def test_extended_report(self, real):
        raw = real.read("genoa_v3/report.bin") + real.read("synthetic/certtable_genoa.bin")
        unwrapped = snp.unwrap_report(raw)
        endorsements = snp.Endorsements.load(unwrapped.table)
        assert snp.verify_report(unwrapped.report, endorsements, at=AT, unsafe_without_crl=True)


class TestRefused:
    def test_expired_vlek(self, real):
        names = ("milan_v3_vlek_aws/report.bin", "milan_v3_vlek_aws/vlek.der", CRLS["milan"])
        refused(EndorsementUnavailable, "snp.leaf", lambda: real.verify(*names))

    def test_vlek_under_the_ask(self, real):
        vlek = snp.parse_leaf(real.read("milan_v3_vlek_aws/vlek.der"))
        (ask, _) = parse_pem_chain(real.read("roots/ask_ark_milan.pem"), id="t", what="t")
        assert vlek.issuer != ask.subject

    @pytest.mark.parametrize("product", ["genoa", "turin"])
    def test_forged_chain_is_an_untrusted_root(self, real, product):
        forged = f"synthetic/forged_{product}"
        error = refused(
            ChainInvalid,
            "snp.ca-chain",
            lambda: real.verify(
                f"{forged}_report.bin", f"{forged}_vcek.der", f"{forged}_ask_ark.pem", CRLS[product]
            ),
        )
        assert error.exit_code == 2
        assert amd_fingerprint(product) in error.want
        # Without the forged CAs: not signed by AMD's. With the genuine VCEK: not its signature.
        refused(
            SignatureInvalid,
            "snp.leaf",
            lambda: real.verify(f"{forged}_report.bin", f"{forged}_vcek.der", CRLS[product]),
        )
        genuine = GOOD[{"genoa": "genoa_v3", "turin": "turin_v5"}[product]][1]
        refused(
            SignatureInvalid,
            "snp.report-signature",
            lambda: real.verify(f"{forged}_report.bin", genuine, CRLS[product]),
        )

    @pytest.mark.parametrize("name", ["vcek-invalid-legacy", "vcek-invalid-new"])
    def test_vcek_of_an_unknown_key(self, real, name):
        der = real.read(f"negative/{name}.der")
        leaf = snp.parse_leaf(der)
        assert leaf.hwid == bytes(range(64))
        report = bytearray(real.read("milan_v3/report.bin"))
        report[0x1A0:0x1E0] = leaf.hwid
        report[0x180:0x188] = leaf.tcb.to_bytes()
        for version in (3, 2):
            report[0] = version
            if version == 2:
                report[0x188:0x18B] = bytes(3)
            refused(
                SignatureInvalid,
                "snp.leaf",
                lambda: real.verify(bytes(report), f"negative/{name}.der", CRLS["milan"]),
            )

    @pytest.mark.parametrize(
        "table",
        [
            "bad_len_wrap",
            "bad_offset_in_header",
            "bad_offset_oob",
            "duplicate_vcek",
            "no_terminator",
        ],
    )
    def test_malformed_table(self, real, table):
        raw = real.read(f"synthetic/certtable_{table}.bin")
        refused(
            MalformedEvidence, "snp.certificate-table", lambda: snp.parse_certificate_table(raw)
        )
        refused(MalformedEvidence, "snp.certificate-table", lambda: snp.Endorsements.load(raw))

    @pytest.mark.parametrize("name", GOOD)
    def test_without_its_vcek(self, real, name):
        report, _, product = GOOD[name]
        error = refused(
            EndorsementUnavailable, "snp.leaf", lambda: real.verify(report, CRLS[product])
        )
        assert error.exit_code == 3

    @pytest.mark.parametrize("name", GOOD)
    def test_stale_list(self, real, name):
        report, vcek, product = GOOD[name]
        error = refused(
            EndorsementUnavailable,
            "snp.crl",
            lambda: real.verify(report, vcek, CRLS[product], at=TODAY),
        )
        assert "outdated" in error.message

    @pytest.mark.parametrize("name", GOOD)
    def test_before_the_certificate(self, real, name):
        report, vcek, _ = GOOD[name]
        refused(
            EndorsementUnavailable,
            "snp.leaf",
            lambda: real.verify(report, vcek, at="2026-01-01T00:00:00Z", unsafe_without_crl=True),
        )


def amd_fingerprint(product):
    return {a.name: a.fingerprint for a in EMBEDDED.amd}[f"ARK-{product.capitalize()}"]


class TestCrossCases:
    def test_vcek_of_another_product(self, real):
        refused(
            EndorsementInvalid,
            "snp.leaf",
            lambda: real.verify("milan_v3/report.bin", "genoa_v3/vcek.pem", CRLS["milan"]),
        )
        refused(
            EndorsementInvalid,
            "snp.leaf",
            lambda: real.verify("genoa_v3/report.bin", "milan_v3/vcek.pem", CRLS["genoa"]),
        )

    def test_vcek_of_another_chip(self, real):
        refused(
            EndorsementInvalid,
            "snp.leaf-tcb",
            lambda: real.verify(
                "milan_v2/report.bin", "azure/vcek_chain_milan_v2.pem", CRLS["milan"]
            ),
        )

    @pytest.mark.parametrize(
        "vcek", ["milan_v2/vcek.der", "milan_v3/vcek.pem", "genoa_v3/vcek.pem", "turin_v5/vcek.pem"]
    )
    def test_vcek_where_a_vlek_signed(self, real, vcek):
        refused(
            EndorsementInvalid,
            "snp.leaf",
            lambda: real.verify(
                "milan_v3_vlek_aws/report.bin", vcek, at=IN_2025, unsafe_without_crl=True
            ),
        )

    @pytest.mark.parametrize("name", GOOD)
    @pytest.mark.parametrize("product", ["milan", "genoa", "turin"])
    def test_chain_of_another_product(self, real, name, product):
        report, vcek, own = GOOD[name]
        chain = f"roots/ask_ark_{product}_vlek.pem"
        if product != own:
            refused(
                ChainInvalid, "snp.ca-chain", lambda: real.verify(report, vcek, chain, CRLS[own])
            )

    @pytest.mark.parametrize("name", GOOD)
    def test_length(self, real, name):
        raw = real.read(GOOD[name][0])
        for wrong in (raw[:1183], raw + b"\0", raw + raw, b""):
            refused(MalformedEvidence, "snp.report", lambda wrong=wrong: snp.parse_report(wrong))

    def test_signature_swapped_or_zero(self, real):
        raw = real.read("genoa_v3/report.bin")
        for signature in (raw[0x2E8:0x330] + raw[0x2A0:0x2E8], bytes(144)):
            changed = raw[:0x2A0] + signature + raw[0x330:]
            refused(
                SignatureInvalid,
                "snp.report-signature",
                lambda changed=changed: real.verify(changed, "genoa_v3/vcek.pem", CRLS["genoa"]),
            )

    def test_claims_to_be_signed_by_a_vlek(self, real):
        raw = bytearray(real.read("milan_v3/report.bin"))
        raw[0x48] = 4
        refused(
            EndorsementInvalid,
            "snp.leaf",
            lambda: real.verify(bytes(raw), "milan_v3/vcek.pem", CRLS["milan"]),
        )

    def test_malleated_signature_is_no_identity(self, real):
        """(r, n - s) verifies as well: nothing may use the signature's bytes as a name."""
        order = int(
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a7"
            "7aecec196accc52973",
            16,
        )
        raw = real.read("genoa_v3/report.bin")
        s = int.from_bytes(raw[0x2E8:0x330], "little")
        other = raw[:0x2E8] + (order - s).to_bytes(72, "little") + raw[0x330:]
        assert real.verify(other, "genoa_v3/vcek.pem", CRLS["genoa"]).measurement == raw[0x90:0xC0]


class TestWrittenDown:
    def test_roots(self, real):
        for root, file in (
            (amd.ARK_MILAN, "milan"),
            (amd.ARK_GENOA, "genoa"),
            (amd.ARK_TURIN, "turin_vcek"),
        ):
            for kind in (file, f"{file.removesuffix('_vcek')}_vlek"):
                *_, ark = parse_pem_chain(real.read(f"roots/ask_ark_{kind}.pem"), id="t", what="t")
                assert ark.sha256 == root.certificate_sha256
                assert ark.subject.hex() == root.subject_hex
                assert ark.spki.hex() == root.spki_hex
                assert f"{ark.not_after:%Y-%m-%d}" == root.not_after

    def test_intermediates_are_those_that_the_roots_certified(self, real):
        files = ("milan", "milan_vlek", "genoa", "genoa_vlek", "turin_vcek", "turin_vlek")
        for known, file in zip(AMD_INTERMEDIATES, files, strict=True):
            certificate, _ = parse_pem_chain(
                real.read(f"roots/ask_ark_{file}.pem"), id="t", what="t"
            )
            assert certificate.sha256 == known.certificate_sha256
            assert certificate.spki.hex() == known.spki_hex
            assert certificate.subject.hex() == known.subject_hex
            assert certificate.serial == known.serial
            assert f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}" == known.not_after_time
            assert f"{certificate.not_before:%Y-%m-%dT%H:%M:%SZ}" == known.not_before_time

    def test_lists_are_signed_by_their_own_root_only(self, real):
        from teeverify.clock import parse_time

        for index, name in enumerate(CRLS.values()):
            crl = parse_crl(real.read(name), id="t", what="t")
            for other, anchor in enumerate(EMBEDDED.amd):

                def act(anchor=anchor, crl=crl):
                    verify_crl_of_anchor(crl, anchor, at=parse_time(AT), id="t", what="t")

                if other == index:
                    act()
                else:
                    with pytest.raises(EvidenceError):
                        act()
            assert crl.revoked == ({0x020001} if "genoa" in name else frozenset())


CASES = {
    **{name: (report, vcek, CRLS[product], AT) for name, (report, vcek, product) in GOOD.items()},
    "milan_v2": ("milan_v2/report.bin", "milan_v2/vcek.der", CRLS["milan"], AT),
    "aws": (
        "milan_v3_vlek_aws/report.bin",
        "milan_v3_vlek_aws/vlek.der",
        CRLS["milan"],
        IN_2025,
    ),
    "azure_milan": (
        "azure/hcl_report_milan_v2.bin",
        "azure/vcek_chain_milan_v2.pem",
        CRLS["milan"],
        AT,
    ),
    "azure_genoa": ("azure/evidence_genoa_v3.json", None, CRLS["genoa"], AT),
    "forged_table": ("genoa_v3/report.bin", "synthetic/certtable_genoa.bin", CRLS["genoa"], AT),
}


def of_case(real, report, certificates, crl):
    """A report out of what it is in, and its endorsements."""
    raw, parts = real.read(report), [real.endorsements(crl)]
    if report.endswith(".json"):
        form = json.loads(raw)
        raw = bytes(form["report"])
        parts.append(snp.Endorsements.load(form["vcek"].encode()))
    else:
        parts.append(real.endorsements(certificates))
    if raw.startswith(b"HCLA"):
        raw = parse_hcl_report(raw).report
    return raw, snp.Endorsements.union(*parts)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_byte_of_a_real_report_counts(real, case):
    """One flipped bit in each of the 1184 bytes, whatever it holds: nothing passes."""
    report, certificates, crl, at = case
    raw, endorsements = of_case(real, report, certificates, crl)
    options = {"at": at, "unsafe_allow_debug": True, "unsafe_without_crl": True}
    assert snp.verify_report(raw, endorsements, **options)
    for offset in range(len(raw)):
        changed = bytearray(raw)
        changed[offset] ^= 1 << (offset * 5 + 3) % 8
        with pytest.raises(EvidenceError):
            snp.verify_report(bytes(changed), endorsements, **options)


@pytest.mark.parametrize("file", ["genoa_v3/vcek.pem", "turin_v5/vcek.pem"])
def test_every_byte_of_a_real_certificate_counts(real, file):
    folder = file.partition("/")[0]
    der = base64.b64decode(b"".join(real.read(file).splitlines()[1:-1]))
    raw = real.read(f"{folder}/report.bin")
    for offset in range(0, len(der), 3):
        changed = bytearray(der)
        changed[offset] ^= 1 << offset % 8

        def act(changed=changed):
            endorsements = snp.Endorsements.load(bytes(changed))
            snp.verify_report(raw, endorsements, at=AT, unsafe_without_crl=True)

        with pytest.raises(TeeVerifyError):
            act()

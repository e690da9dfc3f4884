"""Expected launch digests, compared with those of other tools and of real hardware."""

from __future__ import annotations

import json
import struct
import uuid

import pytest

from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.snp import measurement
from teeverify.snp.measurement import KernelHashes, Launch, explain_measurement, measure
from teeverify.snp.ovmf import Ovmf, Section, SectionType, parse_ovmf
from teeverify.snp.vmsa import CPU_TYPES, Vmm, cpu_signature

FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454"
RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
SECTIONS = (
    (0x800000, 0x9000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x810000, 0x1000, 0x10),
)
TABLE_AT = 0x810C00


def entry(guid, data):
    return data + struct.pack("<H", len(data) + 18) + uuid.UUID(guid).bytes_le


def image(
    *,
    sections=SECTIONS,
    entries=None,
    version=1,
    signature=b"ASEV",
    count=None,
    size=8192,
    footer=FOOTER,
    footer_size=None,
    metadata_at=2048,
):
    """A small image with the tables of OVMF."""
    items = b"".join(struct.pack("<III", *section) for section in sections)
    number = len(sections) if count is None else count
    metadata = signature + struct.pack("<III", 16 + len(items), version, number) + items
    if entries is None:
        entries = [
            (HASH_TABLE, struct.pack("<II", TABLE_AT, 0x400)),
            (METADATA, struct.pack("<I", metadata_at)),
            (RESET, struct.pack("<I", 0x80B004)),
        ]
    table = b"".join(entry(*pair) for pair in entries)
    end = struct.pack("<H", len(table) + 18 if footer_size is None else footer_size)
    tail = table + end + uuid.UUID(footer).bytes_le + bytes(32)
    raw = bytearray(size)
    raw[-len(tail) :] = tail
    place = size - 2048
    raw[place : place + len(metadata)] = metadata
    return bytes(raw)


@pytest.fixture(scope="module")
def launch():
    return Launch.of(image(), kernel=KernelHashes.of(b"kernel", b"initrd", "console=ttyS0"))


class TestOvmf:
    def test_read(self):
        found = parse_ovmf(image())
        assert [(s.gpa, s.size, int(s.kind)) for s in found.sections] == list(SECTIONS)
        assert (found.reset_eip, found.hash_table_gpa) == (0x80B004, TABLE_AT)
        assert len(found.digest) == 48

    def test_without_entries(self):
        found = parse_ovmf(image(entries=[]))
        assert (found.sections, found.reset_eip, found.hash_table_gpa) == ((), None, None)

    @pytest.mark.parametrize("raw", [
        b"", bytes(4095), bytes(4096), image(footer=RESET), image(footer_size=17),
        image(footer_size=9000), image(signature=b"BSEV"), image(version=2), image(count=65),
        image(count=64, metadata_at=16), image(metadata_at=0), image(metadata_at=9000),
        image(sections=[(0, 0x1000, 7)]), image(sections=[(0, 0x1001, 1)]),
        image(sections=[(0, 0, 1)]), image(sections=[(0, 0xFFFFF000, 1)]),
        image(entries=[(RESET, b"")]), image() + b"x",
    ], ids=range(18))  # fmt: skip
    def test_malformed(self, raw):
        with pytest.raises(MalformedEvidence) as caught:
            parse_ovmf(raw)
        assert caught.value.id == "measure.ovmf"

    def test_an_entry_that_does_not_fit(self):
        raw = bytearray(image())
        at = raw.index(uuid.UUID(RESET).bytes_le) - 2
        for size in (0, 17, 60000):
            raw[at : at + 2] = struct.pack("<H", size)
            with pytest.raises(MalformedEvidence):
                parse_ovmf(bytes(raw))


class TestMeasure:
    def test_several_at_once(self, launch):
        table = measure(launch, [8, 1, 2, 2])
        assert list(table) == [1, 2, 8]
        for number, digest in table.items():
            assert measure(Launch(ovmf=launch.ovmf, kernel=launch.kernel, vcpus=number)) == {
                number: digest
            }
        assert len(set(table.values())) == 3

    def test_every_input_counts(self, launch):
        from dataclasses import replace

        other = KernelHashes.of
        changes = [
            {"vcpus": 2}, {"cpu_type": "EPYC-Milan"}, {"vmm": Vmm.EC2}, {"vmm": Vmm.GCE},
            {"features": 0x21}, {"kernel": None},
            {"kernel": other(b"x", b"initrd", "console=ttyS0")},
            {"kernel": other(b"kernel", b"x", "console=ttyS0")},
            {"kernel": other(b"kernel", b"initrd", "console=ttyS1")},
            {"ovmf": parse_ovmf(image(size=12288))},
            {"ovmf": parse_ovmf(image(sections=[*SECTIONS, (0x900000, 0x1000, 1)]))},
        ]  # fmt: skip
        digests = [tuple(measure(replace(launch, **change)).values()) for change in changes]
        assert len({*digests, tuple(measure(launch).values())}) == len(changes) + 1

    @pytest.mark.parametrize("vcpus", [[], [0], [-1], [4097], ["1"], [True]])
    def test_impossible_numbers(self, launch, vcpus):
        with pytest.raises(ConfigurationError):
            measure(launch, vcpus)

    def test_unknown_cpu(self, launch):
        with pytest.raises(ConfigurationError):
            measure(Launch(ovmf=launch.ovmf, cpu_type="Pentium"))

    def test_firmware_that_does_not_measure_a_kernel(self, launch):
        plain = parse_ovmf(image(sections=SECTIONS[:-1]))
        with pytest.raises(ConfigurationError, match="does not measure a kernel"):
            measure(Launch(ovmf=plain, kernel=launch.kernel))
        nowhere = parse_ovmf(image(entries=[(METADATA, struct.pack("<I", 2048))]))
        with pytest.raises(ConfigurationError):
            measure(Launch(ovmf=nowhere, kernel=launch.kernel))

    def test_one_vcpu_without_a_reset_address(self):
        plain = parse_ovmf(image(entries=[(METADATA, struct.pack("<I", 2048))]))
        assert measure(Launch(ovmf=plain))
        with pytest.raises(ConfigurationError):
            measure(Launch(ovmf=plain, vcpus=2))

    def test_signatures(self):
        assert cpu_signature(23, 1, 2) == 0x800F12
        assert cpu_signature(25, 1, 1) == 0xA00F11
        assert cpu_signature(25, 17, 0) == 0xA10F10
        assert CPU_TYPES["EPYC-Turin"] == 0xB00F00


class TestExplain:
    @pytest.mark.parametrize(
        "change",
        [
            {"vcpus": 7},
            {"cpu_type": "EPYC-Genoa"},
            {"features": 0x21},
            {"vmm": Vmm.GCE},
            {"kernel": None},
            {"vcpus": 3, "features": 0x21},
        ],
    )
    def test_found(self, launch, change):
        from dataclasses import replace

        (digest,) = measure(replace(launch, **change)).values()
        found = explain_measurement(digest, launch, max_vcpus=8)
        assert set(found.differences) == set(change)

    def test_the_same(self, launch):
        (digest,) = measure(launch).values()
        assert explain_measurement(digest, launch, max_vcpus=2).differences == {}

    def test_nothing_explains_it(self, launch):
        assert explain_measurement(bytes(48), launch, max_vcpus=2) is None


@pytest.mark.vectors
class TestVectors:
    def test_expected(self, vectors):
        folder = vectors / "snp/measurement"
        for case in json.loads((folder / "expected.json").read_text()):
            ovmf = parse_ovmf((folder / case["ovmf"]).read_bytes())
            kernel = case["kernel"]
            hashes = (
                None
                if kernel is None
                else KernelHashes.of(
                    kernel.encode(), (case["initrd"] or "").encode(), case["cmdline"]
                )
            )
            launch = Launch(
                ovmf=ovmf,
                kernel=hashes,
                vcpus=case["vcpus"],
                vmm=Vmm(case["vmm"].lower()),
                cpu_type=case["vcpu_type"] or "EPYC-v4",
                features=case["guest_features"],
            )
            if case["measurement"] is None:
                with pytest.raises(ConfigurationError):
                    measure(launch)
                continue
            assert measure(launch)[case["vcpus"]].hex() == case["measurement"], case["name"]

    def test_real_hardware_from_hashes_alone(self, vectors):
        case = json.loads((vectors / "snp/measurement/real_hw_inputs.json").read_text())
        ovmf = Ovmf(
            digest=bytes.fromhex(case["ovmf_hash"]),
            sections=tuple(
                Section(gpa=s["gpa"], size=s["size"], kind=SectionType(s["section_type"]))
                for s in case["ovmf_sections"]
            ),
            reset_eip=case["sev_es_reset_eip"],
            hash_table_gpa=case["sev_hashes_table_gpa"],
        )
        kernel = KernelHashes(
            kernel=bytes.fromhex(case["kernel_hash"]),
            initrd=bytes.fromhex(case["initrd_hash"]),
            cmdline=KernelHashes.of_cmdline(case["base_cmdline"]),
        )
        launch = Launch(
            ovmf=ovmf,
            kernel=kernel,
            vcpus=1,
            cpu_type=case["vcpu_type"],
            features=case["guest_features"],
        )
        real = bytes.fromhex(case["measurement"])
        assert measure(launch, [case["vcpus"]])[case["vcpus"]] == real
        assert explain_measurement(real, launch, max_vcpus=4).differences == {"vcpus": "2"}


def test_against_another_implementation(tmp_path):
    """PyPI's sev-snp-measure, where it is installed."""
    guest = pytest.importorskip("sevsnpmeasure.guest")
    from sevsnpmeasure.sev_mode import SevMode
    from sevsnpmeasure.vmm_types import VMMType

    files = {"ovmf": image(), "kernel": b"kernel", "initrd": b"initrd"}
    paths = {name: str(tmp_path / name) for name in files}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    theirs = {Vmm.QEMU: VMMType.QEMU, Vmm.EC2: VMMType.ec2, Vmm.GCE: VMMType.gce}
    for vmm, other in theirs.items():
        for vcpus in (1, 5):
            for with_kernel in (False, True):
                digest = guest.calc_launch_digest(
                    SevMode.SEV_SNP,
                    vcpus,
                    CPU_TYPES["EPYC-Milan"],
                    paths["ovmf"],
                    paths["kernel"] if with_kernel else "",
                    paths["initrd"],
                    "quiet",
                    0x21,
                    vmm_type=other,
                )
                ours = Launch.of(
                    files["ovmf"],
                    vcpus=vcpus,
                    cpu_type="EPYC-Milan",
                    vmm=vmm,
                    features=0x21,
                    kernel=KernelHashes.of(b"kernel", b"initrd", "quiet") if with_kernel else None,
                )
                assert measurement.measure(ours)[vcpus] == digest

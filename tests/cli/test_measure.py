"""``teeverify measure snp``."""

from __future__ import annotations

import hashlib
import json

import pytest

from teeverify.cli.main import main
from teeverify.snp.measurement import KernelHashes, Launch, measure


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small image of OVMF that measures a kernel, a kernel and an initrd."""
    import struct
    import uuid

    def entry(guid, data):
        return data + struct.pack("<H", len(data) + 18) + uuid.UUID(guid).bytes_le

    table = entry("7255371f-3a3b-4b04-927b-1da6efa8d454", struct.pack("<II", 0x810C00, 0x400))
    table += entry("dc886566-984a-4798-a75e-5585a7bf67cc", struct.pack("<I", 2048))
    table += entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", struct.pack("<I", 0x80B004))
    footer = struct.pack("<H", len(table) + 18)
    tail = table + footer + uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le + bytes(32)
    metadata = b"ASEV" + struct.pack("<IIIIII", 28, 1, 1, 0x810000, 0x1000, 0x10)
    image = bytearray(8192)
    image[-len(tail) :] = tail
    image[6144 : 6144 + len(metadata)] = metadata
    folder = tmp_path_factory.mktemp("measure")
    for name, data in {"ovmf": bytes(image), "kernel": b"k", "initrd": b"i"}.items():
        (folder / name).write_bytes(data)
    return folder


def command(files, *more, kernel=True):
    given = ["measure", "snp", "--ovmf", str(files / "ovmf")]
    if kernel:
        given += [
            "--kernel",
            str(files / "kernel"),
            "--initrd",
            str(files / "initrd"),
            "--cmdline",
            "console=ttyS0",
        ]
    return [*given, *more]


def expected(files, vcpus):
    launch = Launch.of(
        (files / "ovmf").read_bytes(), kernel=KernelHashes.of(b"k", b"i", "console=ttyS0")
    )
    return {number: digest.hex() for number, digest in measure(launch, vcpus).items()}


def test_table(files, capsys):
    assert main(command(files, "--vcpus", "1-64")) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    found = {int(line.split()[0]): line.split()[1] for line in lines}
    assert found == expected(files, range(1, 65))


def test_json(files, capsys):
    assert main(command(files, "--vcpus", "1,4-5", "--json")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["measurement"] == {str(n): d for n, d in expected(files, [1, 4, 5]).items()}


def test_explain(files, capsys):
    digests = expected(files, [3])
    assert main(command(files, "--explain", digests[3])) == 0
    assert "vcpus = 3" in capsys.readouterr().out
    assert main(command(files, "--vcpus", "3", "--explain", "00" * 48)) == 0
    assert "Nothing that was tried" in capsys.readouterr().out
    assert main(command(files, "--explain", expected(files, [1])[1])) == 0
    assert "exactly this launch" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    [
        ["--vcpus", "0"],
        ["--vcpus", "2-1"],
        ["--vcpus", "x"],
        ["--vcpus", ""],
        ["--vcpus", "1-9999"],
        ["--vcpu-type", "Pentium"],
        ["--guest-features", "-1"],
        ["--guest-features", "0xzz"],
        ["--explain", "00"],
        ["--kernel", "/nowhere/kernel"],
        ["--ovmf", "a\0b"],
    ],
    ids=str,
)
def test_wrong_use(files, more):
    assert main(command(files, *more)) == 64


def test_a_command_line_without_a_kernel(files):
    assert main(command(files, "--cmdline", "x", kernel=False)) == 64
    assert main(command(files, kernel=False)) == 0


def test_no_firmware(files):
    assert main(["measure", "snp", "--ovmf", str(files / "kernel")]) == 2


def test_hashes_in_place_of_files(files, capsys):
    """Who publishes an image gives hashes: the files need not be at hand."""
    kernel, initrd = (hashlib.sha256(data).hexdigest() for data in (b"k", b"i"))
    hashes = ["--kernel-sha256", kernel, "--initrd-sha256", initrd, "--cmdline", "console=ttyS0"]
    assert main(command(files, *hashes, "--json", kernel=False)) == 0
    shown = json.loads(capsys.readouterr().out)["measurement"]
    assert shown == {"1": expected(files, [1])[1]}
    # The same without an initrd, by file and by hash.
    alone = ["measure", "snp", "--ovmf", str(files / "ovmf"), "--cmdline", "x"]
    outputs = set()
    for given in (["--kernel", str(files / "kernel")], ["--kernel-sha256", kernel]):
        assert main([*alone, *given]) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "more",
    [
        ["--kernel-sha256", "00" * 32, "--kernel", "KERNEL"],
        ["--kernel-sha256", "00" * 31],
        ["--kernel-sha256", "zz" * 32],
        ["--kernel-sha256", ""],
        ["--initrd-sha256", "00" * 32],
        ["--kernel-sha256", "00" * 32, "--initrd-sha256", "x"],
    ],
)
def test_hashes_of_another_form(files, more):
    given = [str(files / "kernel") if part == "KERNEL" else part for part in more]
    assert main(command(files, *given, kernel=False)) == 64

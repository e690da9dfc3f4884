"""``teeverify measure``: the measurement that a VM must have, from what it is launched with."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from teeverify.encoding.strict import hex_bytes
from teeverify.errors import EXIT_SATISFIED, ConfigurationError, MalformedEvidence
from teeverify.snp.measurement import KernelHashes, Launch, explain_measurement, measure
from teeverify.snp.vmsa import CPU_TYPES, Vmm

__all__ = ["add_measure", "measure_command"]

_MAX_FILE = 1024 * 1024 * 1024
_MAX_VCPUS = 4096


def add_measure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``teeverify measure``."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    snp = kinds.add_parser(
        "snp",
        help="AMD SEV-SNP: the launch digest",
        description="Compute the launch digest (MEASUREMENT) of an AMD SEV-SNP VM, for one number "
        "of virtual CPUs or for several.",
    )
    snp.add_argument("--ovmf", required=True, metavar="F", help="the firmware's image")
    snp.add_argument("--kernel", metavar="F", help="the kernel that is booted directly")
    snp.add_argument("--initrd", metavar="F", help="its initrd")
    snp.add_argument("--kernel-sha256", metavar="HEX", help="the kernel's, in place of --kernel")
    snp.add_argument("--initrd-sha256", metavar="HEX", help="the initrd's, in place of --initrd")
    snp.add_argument("--cmdline", default="", metavar="S", help="its command line, exactly")
    snp.add_argument("--vcpus", default="1", metavar="N|N-M|N,M", help="numbers of virtual CPUs")
    snp.add_argument(
        "--vcpu-type", default="EPYC-v4", metavar="NAME", help=f"one of {', '.join(CPU_TYPES)}"
    )
    snp.add_argument(
        "--vmm",
        default="qemu",
        choices=[str(vmm) for vmm in Vmm],
        help="what starts the VM; default: qemu",
    )
    snp.add_argument(
        "--guest-features", default="0x1", metavar="HEX", help="SEV_FEATURES; 0x1 by default"
    )
    snp.add_argument(
        "--explain",
        metavar="HEX",
        help="a measurement that was seen: say which other input would give it",
    )
    snp.add_argument("--json", action="store_true", help="print one JSON object")


def measure_command(options: argparse.Namespace) -> int:
    """Print the table of digests, or what explains one.

    Raises:
        ConfigurationError: A file that cannot be read, or a value of another form.
        MalformedEvidence: The firmware's image cannot be read.
    """
    launch = Launch.of(
        _read(options.ovmf),
        kernel=_kernel(options),
        cpu_type=options.vcpu_type,
        vmm=Vmm(options.vmm),
        features=_number(options.guest_features),
    )
    digests = measure(launch, _numbers(options.vcpus))
    if options.explain is not None:
        return _explain(options, launch, max(digests))
    if options.json:
        shown: dict[str, Any] = {str(number): digest.hex() for number, digest in digests.items()}
        print(json.dumps({"schema": "teeverify.measurement/1", "measurement": shown}, indent=2))
        return EXIT_SATISFIED
    print("vCPUs  measurement")
    for number, digest in digests.items():
        print(f"{number:>5}  {digest.hex()}")
    return EXIT_SATISFIED


def _kernel(options: argparse.Namespace) -> KernelHashes | None:
    """The hashes of what is booted directly: of files, or as they are given."""
    kernel = _hash(options.kernel, options.kernel_sha256, "--kernel")
    initrd = _hash(options.initrd, options.initrd_sha256, "--initrd")
    if kernel is not None:
        return KernelHashes(
            kernel=kernel,
            initrd=hashlib.sha256(b"").digest() if initrd is None else initrd,
            cmdline=KernelHashes.of_cmdline(options.cmdline),
        )
    if initrd is not None or options.cmdline:
        raise ConfigurationError(
            "an initrd and a command line are measured with a kernel only",
            id="usage.measure",
            want="--kernel F",
        )
    return None


def _hash(file: str | None, digest: str | None, flag: str) -> bytes | None:
    if file is not None and digest is not None:
        raise ConfigurationError(
            f"{flag} and {flag}-sha256 say the same thing twice", id="usage.measure"
        )
    if digest is None:
        return None if file is None else hashlib.sha256(_read(file)).digest()
    try:
        return hex_bytes(digest, field=f"{flag}-sha256", id="usage.measure", length=32)
    except MalformedEvidence:
        raise _wrong(f"{flag}-sha256", digest, "32 bytes in hex") from None


def _explain(options: argparse.Namespace, launch: Launch, most: int) -> int:
    try:
        seen = hex_bytes(options.explain, field="--explain", id="usage.measure", length=48)
    except MalformedEvidence:
        raise ConfigurationError(
            "the measurement to explain is not 48 bytes in hex", id="usage.measure"
        ) from None
    found = explain_measurement(seen, launch, max_vcpus=max(most, 64))
    if found is None:
        print(
            "Nothing that was tried explains it (vCPUs, CPU type, hypervisor, features, with or "
            "without the kernel): the firmware, kernel, initrd or command line is another one."
        )
        return EXIT_SATISFIED
    if not found.differences:
        print("It is the measurement of exactly this launch.")
        return EXIT_SATISFIED
    print("It would be explained by:")
    for name, value in found.differences.items():
        print(f"  {name} = {value}")
    return EXIT_SATISFIED


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(
            f"the file cannot be read: {reason}", id="usage.measure", got=ascii(name)[:200]
        ) from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError("the file is too large", id="usage.measure", got=ascii(name)[:200])
    return data


def _number(text: str) -> int:
    digits = text.removeprefix("0x")
    if not digits.isascii() or not digits.isalnum() or len(digits) > 16:  # noqa: PLR2004 -- 64 bits
        raise _wrong("--guest-features", text, "a number in hex, such as 0x1")
    try:
        return int(digits, 16)
    except ValueError:
        raise _wrong("--guest-features", text, "a number in hex, such as 0x1") from None


def _numbers(text: str) -> list[int]:
    """``4``, ``1-64``, or several of these with commas between."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(end.isascii() and end.isdigit() and len(end) <= 4 for end in ends):  # noqa: PLR2004
            raise _wrong("--vcpus", text, "such as 4, 1-64 or 1,2,4")
        start, stop = (int(end) for end in ends)
        if not 0 < start <= stop <= _MAX_VCPUS:
            raise _wrong("--vcpus", text, f"1 to {_MAX_VCPUS}, ascending")
        found.extend(range(start, stop + 1))
    return found


def _wrong(flag: str, got: str, want: str) -> ConfigurationError:
    return ConfigurationError(
        f"{flag} has another form", id="usage.measure", got=ascii(got)[:80], want=want
    )

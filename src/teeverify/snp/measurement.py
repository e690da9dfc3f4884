"""The launch digest that a VM must have, from what it is launched with.

AMD document 56860, SNP_LAUNCH_UPDATE: the digest goes over every page that the host puts into the
guest before it runs: the firmware, the sections that the firmware asks for, the hashes of kernel,
initrd and command line, and the first state of every virtual CPU.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from teeverify.errors import ConfigurationError
from teeverify.snp.ovmf import PAGE, Ovmf, Section, SectionType, extend, parse_ovmf
from teeverify.snp.vmsa import BSP_EIP, CPU_TYPES, Vmm, vmsa_page

__all__ = ["Explanation", "KernelHashes", "Launch", "explain_measurement", "measure"]

_NORMAL, _VMSA, _ZERO, _UNMEASURED, _SECRETS, _CPUID = 1, 2, 3, 4, 5, 6
_VMSA_GPA = 0xFFFFFFFFF000
_NOTHING = bytes(48)
_MAX_VCPUS = 4096
_TABLE = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21").bytes_le
_CMDLINE = uuid.UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a").bytes_le
_INITRD = uuid.UUID("44baf731-3a2f-4bd7-9af1-41e29169781d").bytes_le
_KERNEL = uuid.UUID("4de79437-abd2-427f-b835-d5b172d2045b").bytes_le
_ENTRY_BYTES = 50
_TABLE_BYTES = 18 + 3 * _ENTRY_BYTES
_KNOWN_FEATURES = (0x1, 0x21)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelHashes:
    """SHA-256 of what is booted directly.

    Attributes:
        kernel: Of the kernel.
        initrd: Of the initrd; of nothing where there is none.
        cmdline: Of the command line with the zero byte that ends it.
    """

    kernel: bytes
    initrd: bytes
    cmdline: bytes

    @classmethod
    def of(cls, kernel: bytes, initrd: bytes = b"", cmdline: str = "") -> KernelHashes:
        """Hash the files themselves."""
        return cls(
            kernel=hashlib.sha256(kernel).digest(),
            initrd=hashlib.sha256(initrd).digest(),
            cmdline=cls.of_cmdline(cmdline),
        )

    @staticmethod
    def of_cmdline(cmdline: str) -> bytes:
        """The hash of a command line."""
        return hashlib.sha256(cmdline.encode("utf-8") + b"\0").digest()

    def page(self, offset: int) -> bytes:
        """The page with the table that OVMF reads them from (QEMU, target/i386/sev.c)."""
        entries = ((_CMDLINE, self.cmdline), (_INITRD, self.initrd), (_KERNEL, self.kernel))
        table = _TABLE + _TABLE_BYTES.to_bytes(2, "little")
        for guid, digest in entries:
            table += guid + _ENTRY_BYTES.to_bytes(2, "little") + digest
        page = bytes(offset) + table
        if len(page) > PAGE:
            raise ConfigurationError(
                "the table of hashes does not fit into its page", id="usage.measure"
            )
        return page.ljust(PAGE, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a VM is launched with.

    Attributes:
        ovmf: The firmware, or what of it is needed.
        kernel: Hashes of what is booted directly; ``None`` where the firmware boots from a disk.
        vcpus: How many virtual CPUs.
        cpu_type: QEMU's name of the guest's CPU, or its CPUID signature.
        vmm: Whose hypervisor.
        features: SEV_FEATURES: 0x1 on Linux 6.8 and later, 0x21 on some before.
    """

    ovmf: Ovmf
    kernel: KernelHashes | None = None
    vcpus: int = 1
    cpu_type: str | int = "EPYC-v4"
    vmm: Vmm = Vmm.QEMU
    features: int = 0x1

    @classmethod
    def of(cls, ovmf: bytes, **others: object) -> Launch:
        """The same with an image of OVMF.

        Raises:
            MalformedEvidence: The image cannot be read.
        """
        return cls(ovmf=parse_ovmf(ovmf), **others)  # type: ignore[arg-type]

    @property
    def signature(self) -> int:
        """CPUID signature of the guest's CPU.

        Raises:
            ConfigurationError: No CPU of that name is known.
        """
        if isinstance(self.cpu_type, int):
            return self.cpu_type
        if self.cpu_type not in CPU_TYPES:
            raise ConfigurationError(
                "no CPU of that name is known",
                id="usage.measure",
                got=self.cpu_type,
                want=", ".join(CPU_TYPES),
            )
        return CPU_TYPES[self.cpu_type]


def measure(launch: Launch, vcpus: Iterable[int] | None = None) -> dict[int, bytes]:
    """Compute the launch digest for one number of virtual CPUs, or for several at once.

    Args:
        launch: What is launched.
        vcpus: Numbers of virtual CPUs; that of ``launch`` by default.

    Returns:
        The digest by number of virtual CPUs, in ascending order.

    Raises:
        ConfigurationError: A number that is not possible, or a kernel with firmware that does not
            measure it (built without SNP_KERNEL_HASHES).
    """
    wanted = sorted({launch.vcpus} if vcpus is None else set(vcpus))
    if not wanted or not all(type(n) is int and 0 < n <= _MAX_VCPUS for n in wanted):
        raise ConfigurationError(
            "not a number of virtual CPUs", id="usage.measure", want=f"1 to {_MAX_VCPUS}"
        )
    digest = launch.ovmf.digest
    for section in _ordered(launch):
        digest = _add(digest, section, launch)
    found: dict[int, bytes] = {}
    for number, page in zip(range(1, wanted[-1] + 1), _vcpu_pages(launch), strict=False):
        digest = extend(digest, kind=_VMSA, gpa=_VMSA_GPA, contents=page)
        if number in wanted:
            found[number] = digest
    return found


def _ordered(launch: Launch) -> list[Section]:
    """The sections in the order in which the hypervisor measures them."""
    sections = list(launch.ovmf.sections)
    if launch.kernel is not None and not any(
        section.kind is SectionType.KERNEL_HASHES for section in sections
    ):
        raise ConfigurationError(
            "this firmware does not measure a kernel, so nothing would show which one runs",
            id="usage.measure",
            got="no section SNP_KERNEL_HASHES",
            want="OVMF built for direct boot (AmdSev)",
        )
    if launch.vmm is Vmm.EC2:  # which puts in the CPUID pages last
        sections.sort(key=lambda section: section.kind is SectionType.CPUID)
    return sections


def _add(digest: bytes, section: Section, launch: Launch) -> bytes:
    kind, contents = _ZERO, _NOTHING
    if section.kind is SectionType.SECRETS:
        kind = _SECRETS
    elif section.kind is SectionType.CPUID:
        kind = _CPUID
    elif section.kind is SectionType.SEC_MEM and launch.vmm is Vmm.GCE:
        kind = _UNMEASURED
    elif section.kind is SectionType.KERNEL_HASHES and launch.kernel is not None:
        gpa = launch.ovmf.hash_table_gpa
        if gpa is None or section.size != PAGE or gpa & ~(PAGE - 1) != section.gpa:
            raise ConfigurationError(
                "the firmware does not say where the hashes of the kernel go", id="usage.measure"
            )
        page = launch.kernel.page(gpa % PAGE)
        return extend(digest, kind=_NORMAL, gpa=section.gpa, contents=hashlib.sha384(page).digest())
    for offset in range(0, section.size, PAGE):
        digest = extend(digest, kind=kind, gpa=section.gpa + offset, contents=contents)
    return digest


def _vcpu_pages(launch: Launch) -> Iterator[bytes]:
    """Digests of the state of the first virtual CPU, then of all others."""

    def page(eip: int) -> bytes:
        raw = vmsa_page(
            vmm=launch.vmm, eip=eip, signature=launch.signature, features=launch.features
        )
        return hashlib.sha384(raw).digest()

    yield page(BSP_EIP)
    if launch.ovmf.reset_eip is None:
        raise ConfigurationError(
            "the firmware does not say where further virtual CPUs begin", id="usage.measure"
        )
    other = page(launch.ovmf.reset_eip)
    while True:
        yield other


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A launch that gives a digest, and how it differs from the one that was expected.

    Attributes:
        launch: What was launched.
        differences: What is different, by name: the value found.
    """

    launch: Launch
    differences: Mapping[str, str]


def explain_measurement(
    measurement: bytes, expected: Launch, *, max_vcpus: int = 64
) -> Explanation | None:
    """Find which input would explain a digest: the usual reasons why one differs.

    Tried are other numbers of virtual CPUs, guest CPUs, hypervisors and features, with and without
    the kernel. What was changed on purpose, in firmware or kernel, cannot be found this way.

    Args:
        measurement: The digest of a report.
        expected: The launch that was expected.
        max_vcpus: Most virtual CPUs that are tried.

    Returns:
        The nearest launch that gives this digest; ``None`` where none of those tried does.

    Raises:
        ConfigurationError: The expected launch is not possible.
    """
    found: list[Explanation] = []
    for candidate in _candidates(expected):
        limit = max_vcpus if candidate.ovmf.reset_eip is not None else 1
        for number, digest in measure(candidate, range(1, limit + 1)).items():
            if digest == measurement:
                launch = replace(candidate, vcpus=number)
                found.append(Explanation(launch=launch, differences=_differences(expected, launch)))
    return min(found, key=lambda one: len(one.differences), default=None)


def _candidates(expected: Launch) -> Iterator[Launch]:
    """Every launch that differs in what the hypervisor or its operator chooses."""
    signatures = dict.fromkeys([expected.signature, *CPU_TYPES.values()])
    features = dict.fromkeys([expected.features, *_KNOWN_FEATURES])
    for kernel in dict.fromkeys([expected.kernel, None]):
        for vmm in dict.fromkeys([expected.vmm, *Vmm]):
            for feature in features:
                # Only QEMU tells the guest its CPU at the start.
                for signature in signatures if vmm is Vmm.QEMU else [expected.signature]:
                    yield replace(
                        expected, kernel=kernel, vmm=vmm, features=feature, cpu_type=signature
                    )


def _differences(expected: Launch, found: Launch) -> dict[str, str]:
    pairs = {
        "vcpus": (expected.vcpus, found.vcpus),
        "cpu_type": (expected.signature, found.signature),
        "vmm": (expected.vmm, found.vmm),
        "features": (expected.features, found.features),
        "kernel": (expected.kernel is not None, found.kernel is not None),
    }
    shown = {
        "cpu_type": _cpu_name(found.signature),
        "features": hex(found.features),
        "kernel": "measured" if found.kernel else "not measured",
    }
    return {name: shown.get(name, str(got)) for name, (want, got) in pairs.items() if want != got}


def _cpu_name(signature: int) -> str:
    return next((name for name, known in CPU_TYPES.items() if known == signature), hex(signature))

"""Times the verification of GPU evidence, as multiples of one bare P-384 verification."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import nvidia
from teeverify.nvidia.known import Known
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.nvidia import Nvidia

AT = "2026-06-01T12:00:00Z"
NONCE = bytes(range(32))
# What each may cost at most, in bare verifications.
TARGETS = {
    "one GPU, cold": 8,
    "one GPU, known intermediates": 5,
    "eight new GPUs": 34,
    "eight known GPUs": 13,
    "one manifest, cold": 14,
    "one manifest, cached": 1,
}


def contenders() -> dict[str, Callable[[], object]]:
    """What is timed, by name; the first is the measure of the others."""
    vendor = Nvidia()
    roots = UnsafeTestRoots([vendor.roots_pem()])
    entries = vendor.evidence_list(NONCE, 9)
    manifest = next(iter(vendor.rims().values()))

    def verify(some: list[dict[str, str]], endorsements: nvidia.Endorsements) -> nvidia.Claims:
        return nvidia.verify_evidence(some, endorsements, nonce=NONCE, at=AT, roots=roots)

    def fresh() -> nvidia.Endorsements:
        """An object that knows the intermediates, from a device that is asked about nowhere."""
        endorsements = nvidia.Endorsements()
        verify(entries[8:], endorsements)
        return endorsements

    prepared = [fresh() for _ in range(400)]
    warm, read = nvidia.Endorsements(), Known()
    verify(entries[:8], warm)
    message = bytes(4096)
    own = ec.generate_private_key(ec.SECP384R1())
    public = own.public_key()
    signature = own.sign(message, ec.ECDSA(hashes.SHA384()))
    return {
        "P-384": lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA384())),
        "one GPU, cold": lambda: verify(entries[:1], nvidia.Endorsements()),
        "one GPU, known intermediates": lambda: verify(entries[:1], prepared.pop()),
        "eight new GPUs": lambda: verify(entries[:8], nvidia.Endorsements()),
        "eight known GPUs": lambda: verify(entries[:8], warm),
        "one manifest, cold": lambda: nvidia.verify_rim(manifest, at=AT, roots=roots),
        "one manifest, cached": lambda: nvidia.verify_rim(manifest, at=AT, roots=roots, known=read),
    }


def print_report(rounds: int) -> None:
    """Print medians in milliseconds and in bare verifications, beside what is allowed."""
    functions = contenders()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(min(rounds, 300) + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    bare = statistics.median(times.pop("P-384"))
    print(f"\nGPU evidence (forged), one bare P-384 verification is {bare:.2f} ms")
    print(f"{'':32}{'median ms':>10}{'multiple':>10}{'at most':>9}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:32}{median:10.2f}{median / bare:10.1f}{TARGETS[name]:9}")

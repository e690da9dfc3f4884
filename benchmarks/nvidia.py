"""Times the verification of GPU evidence, as multiples of one bare P-384 verification."""

from __future__ import annotations

import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import nvidia
from teeverify.crypto.ecdsa import verify_raw
from teeverify.endorsements.remembered import Remembering
from teeverify.nvidia.spdm import parse_report
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.nvidia import Nvidia

REPOSITORY = Path(__file__).resolve().parents[1]
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
    warm, read = nvidia.Endorsements(), Remembering()
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
        "one manifest, cached": lambda: nvidia.verify_rim(
            manifest, at=AT, roots=roots, memory=read
        ),
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
    _side_by_side(rounds)


def _side_by_side(rounds: int) -> None:
    """The step that verifies a report's signature, here and in NVIDIA's own Python verifier."""
    python = REPOSITORY / os.environ.get("TEEVERIFY_NVIDIA_SDK", ".venv-nvidia") / "bin/python"
    if not python.exists():
        print("nv-local-gpu-verifier is not installed (.ci/nvidia-sdk): not compared with.")
        return
    entry = Nvidia().evidence_list(NONCE, 1)[0]
    with tempfile.TemporaryDirectory() as scratch:
        asked, told = Path(scratch) / "questions.json", Path(scratch) / "answers.json"
        asked.write_text(json.dumps([{"ask": "signature", "entries": [entry]}]), encoding="utf-8")
        program = [str(python), "-I", str(REPOSITORY / "benchmarks/nvidia_sdk.py")]
        subprocess.run(  # noqa: S603 -- our own program
            [*program, str(asked), str(told)], cwd=scratch, capture_output=True, check=True
        )
        theirs = json.loads(told.read_text(encoding="utf-8"))[0]["report_ms"]
    raw = base64.b64decode(entry["evidence"])
    pem = base64.b64decode(entry["certificate"])
    key = x509.load_pem_x509_certificates(pem)[0].public_key()

    def ours() -> None:
        report = parse_report(raw, name="report")
        verify_raw(key, report.signature, report.signed, id="gpu.report-signature", what="report")

    times = []
    for number in range(min(rounds, 200) + 1):
        start = time.perf_counter()
        ours()
        if number:
            times.append((time.perf_counter() - start) * 1000)
    median = statistics.median(times)
    print("\nReading a report and verifying its signature, the same evidence, median ms")
    print(f"{'teeverify':32}{median:10.2f}")
    print(f"{'nv-local-gpu-verifier 2.7.3':32}{theirs:10.2f}{theirs / median:10.1f} times")

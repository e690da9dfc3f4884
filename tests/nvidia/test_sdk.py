"""Side by side with NVIDIA's own Python verifier (nv-local-gpu-verifier 2.7.3) as an oracle.

It runs in an environment of its own (`.ci/nvidia-sdk` makes it), in a process of its own and in a
scratch folder. Where the verdicts differ, the difference and its reason are written down here and
in docs/nvidia.md; a difference that disappears fails this test too.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from teeverify import nvidia
from teeverify.clock import now
from teeverify.errors import TeeVerifyError
from teeverify.nvidia.evidence import parse_evidence
from teeverify.roots import EMBEDDED

pytestmark = pytest.mark.vectors

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "benchmarks/nvidia_sdk.py"
PAGE = REPOSITORY / "docs/nvidia.md"
Case = Callable[[Path], tuple[list[dict[str, Any]], str]]


@pytest.fixture(scope="module")
def sdk(need, tmp_path_factory) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Ask NVIDIA's verifier, all questions in one run."""
    folder = REPOSITORY / os.environ.get("TEEVERIFY_NVIDIA_SDK", ".venv-nvidia")
    python = folder / "bin/python"
    if not python.exists():
        need("nvidia-sdk", f"no environment with NVIDIA's SDK in {folder}; .ci/nvidia-sdk makes it")

    def ask(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        scratch = tmp_path_factory.mktemp("sdk")
        asked, told = scratch / "questions.json", scratch / "answers.json"
        asked.write_text(json.dumps(questions), encoding="utf-8")
        done = subprocess.run(
            [str(python), "-I", str(PROGRAM), str(asked), str(told)],
            cwd=scratch,
            env={"PATH": os.environ.get("PATH", "")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(told.read_text(encoding="utf-8"))

    return ask


def listed(name: str) -> Case:
    def read(vectors: Path) -> tuple[list[dict[str, Any]], str]:
        entries = json.loads((vectors / "nvidia" / name).read_text())
        return entries, entries[0]["nonce"]

    return read


def pair(name: str, arch: str = "HOPPER") -> Case:
    """A report in hex beside its chain in PEM."""

    def read(vectors: Path) -> tuple[list[dict[str, Any]], str]:
        folder = vectors / "nvidia/evidence"
        text = (folder / f"{name}.report.hex").read_text().strip().replace("\\x", "")
        raw = bytes.fromhex(re.sub(r"\s|0x|,", "", text))
        chain = (folder / f"{name}.chain.pem").read_bytes()
        entry = {
            "arch": arch,
            "evidence": base64.b64encode(raw).decode(),
            "certificate": base64.b64encode(chain).decode(),
        }
        return [entry], raw[4:36].hex()

    return read


EIGHT = "evidence/ppcie_8x_h100_gpu.json"


def changed(case: Case, change: Callable[[list[dict[str, Any]]], None]) -> Case:
    def read(vectors: Path) -> tuple[list[dict[str, Any]], str]:
        entries, nonce = case(vectors)
        change(entries)
        return entries, nonce

    return read


def flipped(where: int) -> Callable[[list[dict[str, Any]]], None]:
    """One bit of the first report."""

    def change(entries: list[dict[str, Any]]) -> None:
        raw = bytearray(base64.b64decode(entries[0]["evidence"]))
        raw[where] ^= 1
        entries[0]["evidence"] = base64.b64encode(raw).decode()

    return change


def relabelled(arch: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            entry["arch"] = arch

    return change


def _pem(entry: dict[str, Any]) -> list[bytes]:
    text = base64.b64decode(entry["certificate"])
    end = b"-----END CERTIFICATE-----\n"
    return [part + end for part in text.split(end) if part.strip()]


def _with_pem(entry: dict[str, Any], parts: list[bytes]) -> None:
    entry["certificate"] = base64.b64encode(b"".join(parts)).decode()


def other_root(entries: list[dict[str, Any]]) -> None:
    """The root that comes with the chain is another certificate of it."""
    parts = _pem(entries[0])
    _with_pem(entries[0], [*parts[:-1], parts[-2]])


def other_chain(entries: list[dict[str, Any]]) -> None:
    entries[0]["certificate"] = entries[1]["certificate"]


def without_identity(entries: list[dict[str, Any]]) -> None:
    parts = _pem(entries[0])
    _with_pem(entries[0], [*parts[:3], parts[4]])


def behind(entries: list[dict[str, Any]]) -> None:
    entries[0]["evidence"] = base64.b64encode(
        base64.b64decode(entries[0]["evidence"]) + b"\0"
    ).decode()


def first_twice(entries: list[dict[str, Any]]) -> None:
    entries[1] = dict(entries[0])


def stale(case: Case) -> Case:
    return lambda vectors: (case(vectors)[0], "00" * 32)


# Name, evidence, our verdict (the check that refuses, or "passes"), theirs.
CASES: tuple[tuple[str, Case, str, bool], ...] = (
    ("eight H100", listed(EIGHT), "passes", True),
    ("H100, certificate on hold, offline", listed("evidence/h100_570.86.10_certhold.json"),
     "passes", True),
    ("H100, driver 580", pair("h100_580.159.03"), "passes", True),
    ("H100 of an old driver, without FWID", pair("h100_535.86.09_nofwid"), "passes", True),
    ("Blackwell", pair("gb100_575.32_blackwell", "BLACKWELL"), "passes", True),
    ("another nonce", stale(listed(EIGHT)), "gpu.nonce", False),
    ("a bit of a measurement flipped", changed(listed(EIGHT), flipped(200)),
     "gpu.report-signature", False),
    ("a bit of the signature flipped", changed(listed(EIGHT), flipped(-1)),
     "gpu.report-signature", False),
    ("the chain of another GPU", changed(listed(EIGHT), other_chain),
     "gpu.report-signature", False),
    ("a certificate left out", changed(listed(EIGHT), without_identity), "gpu.chain", False),
    ("Blackwell called Hopper", pair("gb100_575.32_blackwell", "HOPPER"),
     "gpu.device-type", False),
    ("something behind the report", changed(listed(EIGHT), behind), "gpu.evidence", False),
    ("a good and a tampered GPU", listed("derived/NEG_two_gpus_second_tampered.json"),
     "gpu.report-signature", True),
    ("one GPU twice", listed("derived/NEG_same_gpu_twice.json"), "gpu.distinct", True),
    ("another root came along", changed(listed(EIGHT), other_root), "gpu.chain", True),
    ("one GPU of eight listed twice", changed(listed(EIGHT), first_twice), "gpu.distinct", True),
    ("an old Hopper called Blackwell",
     changed(pair("h100_535.86.09_nofwid"), relabelled("BLACKWELL")), "gpu.device-type", True),
)  # fmt: skip


def ours(entries: list[dict[str, Any]], nonce: str) -> str:
    try:
        nvidia.verify_evidence(entries, nonce=nonce, at=now())
    except TeeVerifyError as error:
        return error.id
    return "passes"


def as_driver_says(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The versions that NVIDIA's driver would name beside the evidence: those that are signed."""
    said = []
    for entry in entries:
        try:
            fields = parse_evidence([entry], tolerate_trailing_nul=True).devices[0].report.fields
            versions = (fields.driver_version or "", (fields.vbios_version or "").lower())
        except TeeVerifyError:
            versions = ("", "")
        said.append({**entry, "driver_version": versions[0], "vbios_version": versions[1]})
    return said


def test_verdicts_side_by_side(vectors, sdk):
    questions = []
    for _, case, _, _ in CASES:
        entries, nonce = case(vectors)
        questions.append({"ask": "evidence", "entries": as_driver_says(entries), "nonce": nonce})
    theirs = [answer["passed"] for answer in sdk(questions)]
    found = {
        name: (ours(*case(vectors)), said)
        for (name, case, _, _), said in zip(CASES, theirs, strict=True)
    }
    assert found == {name: (want, said) for name, _, want, said in CASES}


def test_every_difference_is_documented():
    """The table of docs/nvidia.md names each case in which the verdicts differ, and no other."""
    differing = {name for name, _, want, said in CASES if (want == "passes") != said}
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("<!-- differences -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| ([^|]+?) \|", table, flags=re.MULTILINE)[2:]
    assert set(rows) == differing


def ours_of(manifest: bytes) -> bool:
    try:
        nvidia.verify_rim(manifest, at=now())
    except TeeVerifyError:
        return False
    return True


def test_manifests_side_by_side(vectors, sdk):
    """No manifest that NVIDIA's code refuses passes here, and the other way round."""
    files = sorted((vectors / "nvidia/rim").glob("*.xml"))
    questions = []
    for file in files:
        raw = file.read_bytes()
        version = re.search(rb'colloquialVersion="([^"]+)"', raw)
        questions.append({
            "ask": "manifest",
            "kind": "driver" if "DRIVER" in file.name.upper() else "vbios",
            "xml": base64.b64encode(raw).decode(),
            "version": version[1].decode().lower(),
        })  # fmt: skip
    theirs = {file.name: one["passed"] for file, one in zip(files, sdk(questions), strict=True)}
    mine = {file.name: ours_of(file.read_bytes()) for file in files}
    assert mine == theirs
    assert any(theirs.values()), "all recorded manifests have expired: record one again"


def test_the_roots_are_those_that_nvidia_ships(sdk):
    """By DER: file hashes differ with line endings."""
    from teeverify.crypto.certificates import parse_certificate

    (shipped,) = sdk([{"ask": "roots"}])
    for name, anchors in (
        ("DEVICE_ROOT_CERT", EMBEDDED.nvidia_device),
        ("RIM_ROOT_CERT", EMBEDDED.nvidia_rim),
    ):
        theirs = parse_certificate(base64.b64decode(shipped[name]), id="roots", what=name)
        assert (theirs.subject, theirs.spki) in {(one.subject, one.spki) for one in anchors}
        assert theirs.sha256 in {one.certificate_sha256 for one in anchors}


def test_it_writes_only_into_its_scratch_folder(vectors, sdk, tmp_path, monkeypatch):
    """NVIDIA's package writes log files wherever it stands; never where we stand."""
    monkeypatch.chdir(tmp_path)
    sdk([{"ask": "roots"}])
    assert list(tmp_path.iterdir()) == []

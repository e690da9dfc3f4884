"""Every row of the vectors' MANIFEST gives its verdict and reason, as people ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from teeverify import TeeVerifyError, nvidia
from teeverify.cli.main import main
from teeverify.client import Verifier

pytestmark = pytest.mark.vectors
TODAY = "2026-11-22T00:00:00Z"
PAST = "2025-01-10T00:00:00Z"
THEN = "2026-06-29T02:10:00Z"
# What holds no evidence: trust anchors, and examples of claims and policies.
ANCHORS = {
    "certs/nvidia_device_identity_ca.pem",
    "certs/nvidia_corim_signing_root_ca.pem",
    "certs/nras_jwks_x5c_chain_20260608.json",
}  # tests/nvidia/test_vectors.py::test_embedded_roots_are_those_of_the_vendor
REFERENCE = re.compile(r"policy/.*|nras/claims_v3_decoded\.json")


class Row(NamedTuple):
    """How a row is asked for, and what must come out.

    Attributes:
        files: The files of the manifest that it uses.
        evidence: Makes the evidence and gives the nonce.
        at: The time.
        code: The exit code under ``genuine``, with ``--for evidence``.
        check: The finding to look at.
        words: What its message, or what it got, says.
        endorsements: File names, by what they are called for ``--endorsements``.
    """

    files: tuple[str, ...]
    evidence: Callable[[Path], tuple[Any, str]]
    at: str
    code: int
    check: str
    words: str
    endorsements: tuple[tuple[str, str], ...] = ()


def listed(name: str) -> Callable[[Path], tuple[Any, str]]:
    def read(folder: Path) -> tuple[Any, str]:
        value = json.loads((folder / name).read_text())
        entries = value if isinstance(value, list) else value["evidence_list"]
        nonce = value["nonce"] if isinstance(value, dict) else value[0]["nonce"]
        return entries, nonce

    return read


def machine(folder: Path) -> tuple[Any, str]:
    """GPUs and switches of one box: they were asked under one nonce."""
    gpus, nonce = listed("evidence/ppcie_8x_h100_gpu.json")(folder)
    return [*gpus, *listed("evidence/ppcie_4x_ls10_switch.json")(folder)[0]], nonce


def signed_nonce(name: str) -> Callable[[Path], tuple[Any, str]]:
    """The list with the nonce that its devices signed, whatever the request said."""

    def read(folder: Path) -> tuple[Any, str]:
        entries, _ = listed(name)(folder)
        entries = [{k: v for k, v in one.items() if k != "nonce"} for one in entries]
        parsed = nvidia.parse_evidence(entries)
        return entries, parsed.devices[0].report.requester_nonce.hex()

    return read


def pair(name: str) -> Callable[[Path], tuple[Any, str]]:
    def read(folder: Path) -> tuple[Any, str]:
        report = (folder / f"evidence/{name}.report.hex").read_text()
        chain = (folder / f"evidence/{name}.chain.pem").read_text()
        return [{"evidence": report, "certificate": chain}], report[8:72]

    return read


def of_pair(name: str) -> tuple[str, ...]:
    return (f"evidence/{name}.report.hex", f"evidence/{name}.chain.pem")


def nras(folder: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"nras/{folder}{name}", name) for name in names)


UNKNOWN = "in an unknown mode"
OLD = "h100_535.86.09_nofwid"
OLD_DRIVER = "NV_GPU_DRIVER_GH100_535.86.09.xml"
OLD_VBIOS = "NV_GPU_VBIOS_1010_0200_882_96005E0001.xml"
ONE = "nras/h200_1gpu_pass/request.json"
ANSWER = ("response_eat.json", "jwks.json")
ROWS: dict[str, Row] = {
    "eight H100": Row(("evidence/ppcie_8x_h100_gpu.json",),
        listed("evidence/ppcie_8x_h100_gpu.json"), TODAY, 0, "gpu.device", UNKNOWN),
    "their switches": Row(("evidence/ppcie_4x_ls10_switch.json",),
        listed("evidence/ppcie_4x_ls10_switch.json"), TODAY, 0, "gpu.device", UNKNOWN),
    "the whole box": Row((), machine, TODAY, 0, "gpu.switches", "exactly these NVSwitches"),
    "a chain on hold, offline": Row(("evidence/h100_570.86.10_certhold.json",),
        listed("evidence/h100_570.86.10_certhold.json"), TODAY, 0, "gpu.device", UNKNOWN),
    "driver 580": Row(of_pair("h100_580.159.03"), pair("h100_580.159.03"), TODAY, 0,
        "gpu.device", "is the certified one"),
    "Blackwell": Row(of_pair("gb100_575.32_blackwell"), pair("gb100_575.32_blackwell"), TODAY, 0,
        "gpu.device", "Blackwell (GB100)"),
    "no FWID": Row(of_pair(OLD), pair(OLD), TODAY, 0, "gpu.device", "is not in its report"),
    "a switch and its manifest": Row(
        (*of_pair("ls10_96.10.55.00.01_switch"),), pair("ls10_96.10.55.00.01_switch"), TODAY, 0,
        "gpu.device", "31 measurements equal",
        (("rim/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
          "NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"),)),
    "an invalid signature": Row(of_pair("NEG_ls10_invalid_signature"),
        pair("NEG_ls10_invalid_signature"), TODAY, 2, "gpu.report-signature", ""),
    "a trailing zero byte": Row(of_pair("EDGE_h100_580.95.05_trailing_nul"),
        pair("EDGE_h100_580.95.05_trailing_nul"), TODAY, 2, "gpu.evidence", "trailing data"),
    "the second GPU tampered with": Row(("derived/NEG_two_gpus_second_tampered.json",),
        listed("derived/NEG_two_gpus_second_tampered.json"), TODAY, 2, "gpu.report-signature",
        "gpu[1]"),
    "one GPU twice": Row(("derived/NEG_same_gpu_twice.json",),
        listed("derived/NEG_same_gpu_twice.json"), TODAY, 2, "gpu.distinct", "one device"),
    "its VBIOS's manifest": Row((), pair(OLD), PAST, 0, "gpu.device", UNKNOWN,
        ((f"rim/{OLD_VBIOS}", OLD_VBIOS),)),
    "another revision's manifest": Row((), pair(OLD), PAST, 2, "rim.golden-values", "index 9",
        ((f"rim/MISMATCH_{OLD_VBIOS}", OLD_VBIOS),)),
    "an older revision's manifest": Row((), pair("h100_580.159.03"), PAST, 2, "rim.golden-values",
        "index 9", (("rim/NV_GPU_VBIOS_1010_0205_862_9600740020.xml",
                     "NV_GPU_VBIOS_1010_0205_862_9600740020.xml"),)),
    "a manifest of another VBIOS": Row((), pair("h100_580.159.03"), PAST, 2, "rim.subject",
        "another version", (("rim/NV_GPU_VBIOS_1010_0205_862_96005E0004.xml",
                             "NV_GPU_VBIOS_1010_0205_862_9600740020.xml"),)),
    "a driver's manifest of another version": Row((), pair(OLD), TODAY, 2, "rim.subject",
        "another version", (("rim/NV_GPU_DRIVER_GH100_550.144.03.xml", OLD_DRIVER),)),
    "a test driver's manifest": Row((), pair(OLD), PAST, 2, "rim.subject", "another version",
        (("rim/NV_GPU_DRIVER_GH100_545.00_testonly.xml", OLD_DRIVER),)),
    "a spoilt signature of a manifest": Row((), pair(OLD), TODAY, 2, "rim.signature", "",
        (("rim/NEG_incorrect_signature_driver.xml", OLD_DRIVER),)),
    "a manifest under a key of its own": Row((), pair(OLD), TODAY, 2, "rim.form", "",
        (("rim/NEG_forged_keyvalue.xml", OLD_DRIVER),)),
    "NRAS says yes": Row((ONE,), listed(ONE), THEN, 0, "gpu.device", "NVIDIA's service (NRAS) says",
        nras("h200_1gpu_pass/", *ANSWER)),
    "NRAS says yes of eight": Row(("nras/h200_8gpu_pass/request.json",),
        listed("nras/h200_8gpu_pass/request.json"), THEN, 0, "gpu.device",
        "NVIDIA's service (NRAS) says", nras("h200_8gpu_pass/", *ANSWER)),
    "NRAS's answer has expired": Row((), listed(ONE), TODAY, 3, "nras.key", "expired",
        nras("h200_1gpu_pass/", *ANSWER)),
    "NRAS says no": Row(("nras/h200_8gpu_nonce_mismatch/request.json",),
        signed_nonce("nras/h200_8gpu_nonce_mismatch/request.json"), THEN, 2, "nras.claims",
        "4010 NONCE_NOT_MATCHING", nras("h200_8gpu_nonce_mismatch/", *ANSWER)),
    "the request's nonce is not the devices'": Row((),
        listed("nras/h200_8gpu_nonce_mismatch/request.json"), THEN, 2, "gpu.nonce", ""),
    "a key that was rotated out, two GPUs": Row((), listed(ONE), THEN, 3, "nras.key", "",
        (*nras("", "eat_v3claims_2gpu_prod.json"),
         ("nras/h200_1gpu_pass/jwks.json", "jwks.json"))),
    "a key that was rotated out, one GPU": Row((), listed(ONE), THEN, 3, "nras.key", "",
        (*nras("", "eat_v3claims_1gpu_prod.json"),
         ("nras/h200_1gpu_pass/jwks.json", "jwks.json"))),
    "NVIDIA's staging service": Row((), listed(ONE), THEN, 2, "nras.token", "production",
        (*nras("", "eat_v3claims_switch_stg.json"),
         ("nras/h200_1gpu_pass/jwks.json", "jwks.json"))),
}  # fmt: skip


@pytest.fixture
def folder(vectors) -> Path:
    return vectors / "nvidia"


def test_every_row_is_here(folder):
    text = (folder / "MANIFEST.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE))
    assert len(named) > 40
    used = ANCHORS | {file for row in ROWS.values() for file in row.files}
    used |= {file for row in ROWS.values() for file, _ in row.endorsements}
    assert {one for one in named - used if not REFERENCE.fullmatch(one)} == set()


@pytest.fixture
def files(folder, tmp_path):
    """The evidence of a row as a file, its nonce, and its folder of endorsements."""

    def make(row: Row) -> tuple[Path, str, Path | None]:
        entries, nonce = row.evidence(folder)
        source = tmp_path / "gpus.json"
        source.write_text(json.dumps(entries))
        if not row.endorsements:
            return source, nonce, None
        given = tmp_path / "endorsements"
        given.mkdir()
        for file, name in row.endorsements:
            called = name if not name.startswith("eat_") else "answer-eat.json"
            (given / called).write_bytes((folder / file).read_bytes())
        return source, nonce, given

    return make


def found(findings: list[dict[str, Any]], row: Row) -> list[dict[str, Any]]:
    texts = (
        one
        for one in findings
        if one["id"] == row.check and row.words in f"{one['message']} {one['got']} {one['want']}"
    )
    return list(texts)


@pytest.mark.parametrize("name", ROWS)
def test_on_the_command_line(files, capsys, name):
    row = ROWS[name]
    source, nonce, given = files(row)
    arguments = ["verify", str(source), "--for", "evidence", "--nonce", nonce, "--at", row.at]
    arguments += ["--offline", "--json", *(("--endorsements", str(given)) if given else ())]
    code = main(arguments)
    result = json.loads(capsys.readouterr().out)
    assert code == row.code, result["summary"]
    assert found(result["findings"], row), [
        one for one in result["findings"] if one["id"] == row.check
    ]


@pytest.mark.parametrize("name", ROWS)
def test_in_python(files, name):
    row = ROWS[name]
    source, nonce, given = files(row)
    verifier = Verifier(offline=True, endorsements=() if given is None else given)
    asked = {"nonce": nonce, "at": row.at, "scope": "evidence"}
    result = verifier.appraise(source, **asked)
    assert result.exit_code == row.code
    assert found(json.loads(result.to_json())["findings"], row)
    if row.code:
        with pytest.raises(TeeVerifyError):
            verifier.verify(source, **asked)

"""Runs NVIDIA's own Python verifier on evidence: a program for the environment that has it.

    python nvidia_sdk.py QUESTIONS.json ANSWERS.json

Nothing of teeverify is imported. NVIDIA's package writes log files where it stands and prints to
standard output, so it is started in a scratch folder and the answers go to a file. Its network
steps (OCSP, and fetching manifests) are replaced by a good answer, for both sides are compared on
the same bytes; where a question is about a manifest, that manifest is verified by NVIDIA's code.
"""

# ruff: noqa: ANN401, D102 -- it fills in for classes of NVIDIA's, which have no types
from __future__ import annotations

import base64
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from verifier import cc_admin
from verifier.attestation import AttestationReport
from verifier.cc_admin_utils import CcAdminUtils
from verifier.config import GPU_ARCHITECTURE_MAP, BaseSettings
from verifier.nvml.gpu_cert_chains import GpuCertificateChains
from verifier.rim import RIM

_ARCHITECTURES = {"HOPPER": 9, "BLACKWELL": 10}
_ATTESTATION = {
    "verbose": False,
    "test_no_gpu": False,
    "driver_rim": None,
    "vbios_rim": None,
    "user_mode": True,
    "allow_hold_cert": False,
    "ocsp_nonce_disabled": False,
    "rim_service_url": None,
    "ocsp_url": None,
    "service_key": None,
    "claims_version": "2.0",
}


class Device:
    """What NVIDIA's driver would say of a GPU, from recorded evidence."""

    def __init__(self, entry: dict[str, Any], index: int) -> None:
        self.report = base64.b64decode(entry["evidence"])
        # As NVIDIA's own reader: the root that came along is replaced by the one of the package.
        chain = GpuCertificateChains.extract_cert_chain(base64.b64decode(entry["certificate"]))
        root = Path(BaseSettings.DEVICE_ROOT_CERT).read_bytes()
        self.chain = [*chain[:-1], crypto.load_certificate(crypto.FILETYPE_PEM, root)]
        self.entry = entry
        self.uuid = f"GPU-{index}"

    def get_gpu_architecture(self) -> int:
        return _ARCHITECTURES.get(self.entry["arch"], 0)

    def get_uuid(self) -> str:
        return self.uuid

    def get_driver_version(self) -> str:
        return self.entry["driver_version"]

    def get_vbios_version(self) -> str:
        return self.entry["vbios_version"]

    def get_attestation_report(self) -> bytes:
        return self.report

    def get_attestation_cert_chain(self) -> list[Any]:
        return self.chain


class GoodRim:
    """A manifest that passes, where a question is about the evidence alone."""

    def __init__(self, *, rim_name: str, settings: Any, **_: Any) -> None:
        self.name = rim_name
        getattr(settings, f"mark_{rim_name}_rim_fetched")()

    def get_manufacturer_id(self, _: str) -> str:
        return "5703"

    def verify(self, *, version: str, settings: Any) -> tuple[bool, None]:
        del version
        step = f"mark_gpu_{self.name}_rim"
        getattr(settings, f"mark_rim_{self.name}_measurements_as_available")()
        for name in (
            "schema_validated",
            "signature_verified",
            "version_matched",
            "cert_chain_validated",
        ):
            getattr(settings, f"{step}_{name}")()
        getattr(settings, f"{step}_cert_status")("valid")
        getattr(settings, f"{step}_cert_ocsp_status")("good")
        return True, None


class GoodMeasurements:
    """A comparison that passes, where a question is about the evidence alone."""

    def __init__(self, *_: Any, settings: Any) -> None:
        settings.mark_no_driver_vbios_measurement_index_conflict()

    def verify(self, settings: Any) -> bool:
        settings.mark_measurements_as_matching()
        return True


def _good_revocation(*_: Any) -> tuple[bool, None, str, None]:
    return True, None, "good", None


def evidence(question: dict[str, Any]) -> dict[str, Any]:
    """The verdict of ``cc_admin.attest`` on a list of GPUs."""
    try:
        devices = [Device(entry, index) for index, entry in enumerate(question["entries"])]
        result = cc_admin.attest(dict(_ATTESTATION), question["nonce"], devices)
    except BaseException as error:  # noqa: BLE001 -- whatever it raises is its verdict
        return {"passed": False, "error": type(error).__name__}
    return {"passed": bool(result[0]) if result else False, "error": None}


def manifest(question: dict[str, Any]) -> dict[str, Any]:
    """The verdict of ``RIM.verify`` on one manifest."""
    settings = GPU_ARCHITECTURE_MAP[9]
    try:
        text = base64.b64decode(question["xml"]).decode()
        rim = RIM(rim_name=question["kind"], settings=settings, content=text)
        passed = bool(rim.verify(version=question["version"], settings=settings)[0])
    except BaseException as error:  # noqa: BLE001 -- whatever it raises is its verdict
        return {"passed": False, "error": type(error).__name__}
    return {"passed": passed, "error": None}


def signature(question: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of the step that verifies a report's signature, and of the chain's."""
    device = Device(question["entries"][0], 0)
    settings = GPU_ARCHITECTURE_MAP[device.get_gpu_architecture()]
    leaf = device.chain[0].to_cryptography()
    mode = BaseSettings.Certificate_Chain_Verification_Mode.GPU_ATTESTATION

    def report() -> Any:
        parsed = AttestationReport(device.report, settings)
        return parsed.verify_signature(leaf, settings.signature_length, settings.HashFunction)

    def chain() -> Any:
        return CcAdminUtils.verify_certificate_chain(device.chain, settings, mode)[0]

    return {"report_ms": _milliseconds(report), "chain_ms": _milliseconds(chain)}


def _milliseconds(function: Any) -> float:
    times = []
    for number in range(21):
        start = time.perf_counter()
        if function() is not True:
            return float("nan")
        if number:
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def roots(_: dict[str, Any]) -> dict[str, Any]:
    """The root certificates that the package ships, in DER."""
    found = {}
    for name in ("DEVICE_ROOT_CERT", "RIM_ROOT_CERT"):
        pem = Path(getattr(BaseSettings, name)).read_bytes()
        der = crypto.dump_certificate(
            crypto.FILETYPE_ASN1, crypto.load_certificate(crypto.FILETYPE_PEM, pem)
        )
        found[name] = base64.b64encode(der).decode()
    return found


KINDS = {"evidence": evidence, "manifest": manifest, "signature": signature, "roots": roots}


def _alone(question: dict[str, Any], answers: Any) -> None:
    """Answer in a process of its own: NVIDIA's verdict flags outlive a call."""
    CcAdminUtils.ocsp_certificate_chain_validation = staticmethod(_good_revocation)
    CcAdminUtils.fetch_rim_file = staticmethod(lambda _: "")
    cc_admin.NvmlHandler.is_cc_dev_mode = staticmethod(lambda: False)
    if question["ask"] == "evidence":
        cc_admin.RIM = GoodRim
        cc_admin.Verifier = GoodMeasurements
    answers.send(KINDS[question["ask"]](question))


def main(questions: str, answers: str) -> None:
    """Answer all questions."""
    fork = multiprocessing.get_context("fork")
    found = []
    for question in json.loads(Path(questions).read_text(encoding="utf-8")):
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=_alone, args=(question, theirs))
        process.start()
        found.append(ours.recv() if ours.poll(60) else {"passed": False, "error": "no answer"})
        process.join()
    Path(answers).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

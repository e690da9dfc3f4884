"""What a source is that is no evidence, so that the refusal can say what to do with it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from teeverify.encoding.strict import any_base64_bytes, hex_bytes, json_value
from teeverify.errors import MalformedEvidence
from teeverify.snp.report import REPORT_BYTES

__all__ = ["Likely", "guess"]

_ENDORSES = "It endorses evidence, and is none: pass it with --endorsements, beside the evidence."
_AMD = "Save the firmware's answer whole: 1184 bytes, or with its certificates behind it."
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
_HEX = re.compile(rb"(?:0x)?[0-9a-fA-F\s]{64,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]{64,}")
# COSE_Sign1 with ES384, alone or tagged, as AWS Nitro enclaves sign their documents.
_NITRO = (bytes.fromhex("8444a1013822"), bytes.fromhex("d28444a1013822"))
_LATER_VERSIONS = range(2, 10)
_LENGTHS = range(REPORT_BYTES - 400, REPORT_BYTES + 400)


class Likely(NamedTuple):
    """What bytes look like; nothing but a help for whoever gave them.

    Attributes:
        what: In words.
        hint: What to do with it.
    """

    what: str
    hint: str


# What JSON holds, by a member that nothing else has.
_MEMBERS: dict[str, Likely] = {
    "keys": Likely("a list of public keys (JWKS)", _ENDORSES),
    "tcbInfo": Likely("Intel's TCB information", _ENDORSES),
    "enclaveIdentity": Likely("Intel's identity of an enclave", _ENDORSES),
    "tcb_info": Likely("Intel's collateral", _ENDORSES),
    "vcekCert": Likely("Azure's copy of AMD's certificates", _ENDORSES),
    "attestation_report": Likely(
        "JSON around an AMD SEV-SNP report",
        "Take the 1184 bytes of the report out of it and give them alone; its certificate goes "
        "with --endorsements.",
    ),
    "rim": Likely("an answer of NVIDIA's manifest service (RIM)", _ENDORSES),
}
_REPORTS = (
    "intel_quote", "signing_address", "gateway_attestation", "model_attestations",
    "all_attestations", "enclaveAttestationReport", "raw_report", "nvidia_payload", "api_version",
    "format",
)  # fmt: skip
_REPORT = Likely(
    "a provider's report, saved without the URL that it was asked for with",
    "Name its dialect with --dialect ('teeverify providers' lists them), or record it anew with "
    "'teeverify capture', which keeps nonce, URL and time.",
)


def guess(raw: bytes) -> Likely | None:
    """Say what bytes look like that are in no form of evidence; ``None`` where nobody can tell."""
    text = raw.strip()
    if not text:
        return Likely("nothing: it is empty", "Save the evidence again.")
    if text.startswith((b"{", b"[")):
        return _json(text)
    return _text(text) or _binary(raw)


def _text(text: bytes) -> Likely | None:
    if text.startswith(b"-----BEGIN "):
        label = text[11:60].split(b"-----")[0].decode("ascii", "replace")
        return Likely(f"PEM ({label})", _ENDORSES)
    if text.startswith(b"<") and b"SoftwareIdentity" in text[:4096]:
        hint = f"{_ENDORSES} Its file must be called as NVIDIA's id, with .xml behind it."
        return Likely("one of NVIDIA's reference manifests (RIM)", hint)
    if text.startswith(b"<"):
        return Likely("a web page or XML", "Save what the route itself answers, not a page.")
    if _TOKEN.fullmatch(text):
        return Likely(
            "a token (JWT)",
            "A token is somebody's word about evidence that is not here: give the evidence itself.",
        )
    for form, read in ((_HEX, _from_hex), (_BASE64, _from_base64)):
        if form.fullmatch(text):
            return _binary(read(text))
    return None


def _from_hex(text: bytes) -> bytes:
    digits = b"".join(text.split()).removeprefix(b"0x")
    return hex_bytes(digits[: len(digits) // 2 * 2].decode(), field="source", id="source")


def _from_base64(text: bytes) -> bytes:
    joined = b"".join(text.split())
    try:
        return any_base64_bytes(joined[: len(joined) // 4 * 4].decode(), field="", id="source")
    except MalformedEvidence:
        return b""


def _binary(raw: bytes) -> Likely | None:
    if raw.startswith(_NITRO):
        return Likely(
            "an AWS Nitro enclave's attestation document",
            "Evidence of Nitro enclaves is not verified here.",
        )
    if raw.startswith((b"\x30\x81", b"\x30\x82")):
        return Likely("a certificate, a revocation list or an OCSP answer in DER", _ENDORSES)
    version = int.from_bytes(raw[:4], "little")
    if len(raw) == REPORT_BYTES and version in _LATER_VERSIONS:
        hint = "Versions 2 to 5 are read here; a newer one needs a newer release."
        return Likely(f"an AMD SEV-SNP report of version {version}", hint)
    if len(raw) in _LENGTHS and version in _LATER_VERSIONS:
        return Likely(
            f"an AMD SEV-SNP report, but of {len(raw)} bytes instead of {REPORT_BYTES}", _AMD
        )
    return None


def _json(text: bytes) -> Likely | None:
    try:
        value: Any = json_value(text, field="source", id="source")
    except MalformedEvidence as error:
        return Likely(f"JSON that cannot be read ({error.message}{error.where})", "Save it again.")
    if isinstance(value, list):
        if value and isinstance(value[0], list) and value[0][:1] == ["JWT"]:
            return Likely(
                "an answer of NVIDIA's service (NRAS)",
                f"{_ENDORSES} Its file must be called *eat.json, with *jwks.json beside it.",
            )
        return Likely("a list without GPU evidence in it", "Save the evidence again.")
    if not isinstance(value, dict):
        return None
    if any(name in value for name in _REPORTS):
        return _REPORT
    return next((what for name, what in _MEMBERS.items() if name in value), None)

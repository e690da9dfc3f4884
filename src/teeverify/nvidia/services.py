"""What to ask of NVIDIA's services about devices: manifests, revocation, and NVIDIA's own word.

What is asked for is made of what the devices signed; the host is the caller's choice, never the
evidence's. Nothing here opens a socket.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.crypto.certificates import Certificate
from teeverify.crypto.ocsp import build_request
from teeverify.errors import ConfigurationError
from teeverify.nvidia.claims import DeviceClaims
from teeverify.nvidia.evidence import DeviceEvidence

__all__ = [
    "NVIDIA_NRAS",
    "NVIDIA_OCSP",
    "NVIDIA_RIM",
    "Hosts",
    "NrasVersion",
    "Question",
    "jwks_question",
    "nras_question",
    "ocsp_question",
    "rim_question",
]

NVIDIA_RIM = "https://rim.attestation.nvidia.com"
NVIDIA_OCSP = "https://ocsp.ndis.nvidia.com"
NVIDIA_NRAS = "https://nras.attestation.nvidia.com"
NrasVersion: TypeAlias = Literal["v3", "v4"]

_CLAIMS = {"v3": "2.0", "v4": "3.0"}
_ARCH = {"Hopper": "HOPPER", "Blackwell": "BLACKWELL", "LS10": "LS10"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """``https://HOST[:PORT]`` of each service: NVIDIA's own, or mirrors of the caller's choice.

    Attributes:
        rim: Reference manifests.
        ocsp: Revocation.
        nras: Remote attestation, with its keys.
    """

    rim: str = NVIDIA_RIM
    ocsp: str = NVIDIA_OCSP
    nras: str = NVIDIA_NRAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask.

    Attributes:
        url: The whole URL.
        what: What is asked for, in words.
        id: The check that needs it.
        body: What to post; ``None`` where the URL says it all.
        content_type: What the body is.
        kept_as: Under which name the answer may be kept: the URL, with a fragment for what was
            posted; empty where it may not.
    """

    url: str
    what: str
    id: str
    body: bytes | None = None
    content_type: str = ""
    kept_as: str = ""


def rim_question(name: str, hosts: Hosts) -> Question:
    """Ask for a manifest.

    Args:
        name: Its id, of :func:`~teeverify.nvidia.rim_ids`: letters, digits, dots, underscores.
        hosts: Whom to ask.
    """
    url = f"{hosts.rim.rstrip('/')}/v1/rim/{name}"
    return Question(url=url, what=f"NVIDIA's manifest {name}", id="rim.present", kept_as=url)


def ocsp_question(
    certificate: Certificate, issuer: Certificate, nonce: bytes, hosts: Hosts
) -> Question:
    """Ask whether a certificate is revoked.

    Args:
        certificate: Which one.
        issuer: Its issuer.
        nonce: 32 fresh bytes, which the answer may echo.
        hosts: Whom to ask.
    """
    url = f"{hosts.ocsp.rstrip('/')}/"
    return Question(
        url=url,
        what=f"NVIDIA's word on the revocation of {certificate.common_name!a}",
        id="ocsp.present",
        body=build_request(certificate, issuer, nonce),
        content_type="application/ocsp-request",
        kept_as=f"{url}#ocsp-{certificate.sha256}",
    )


def nras_question(
    evidence: Sequence[DeviceEvidence],
    devices: Sequence[DeviceClaims],
    nonce: bytes,
    hosts: Hosts,
    *,
    version: NrasVersion = "v4",
) -> Question:
    """Post evidence to NVIDIA's remote attestation service. The answer must not be kept.

    Args:
        evidence: The evidence of devices of one kind.
        devices: The same devices, as verified here.
        nonce: The nonce that they signed.
        hosts: Whom to ask.
        version: Of the service's interface; the claims are 2.0 in ``v3`` and 3.0 in ``v4``.

    Raises:
        ConfigurationError: No devices, devices of several kinds, or no such version.
    """
    kinds = {device.architecture for device in devices}
    if len(kinds) != 1 or len(evidence) != len(devices) or version not in _CLAIMS:
        raise ConfigurationError(
            "NRAS is asked about devices of one kind at a time",
            id="usage.nras",
            got=f"{', '.join(sorted(kinds)) or 'none'}; {version!r}"[:80],
            want="devices of one architecture; v3 or v4",
        )
    architecture = kinds.pop()
    kind = "switch" if architecture == "LS10" else "gpu"
    body = {
        "nonce": nonce.hex(),
        "arch": _ARCH[architecture],
        "evidence_list": [
            {"evidence": _base64(one.report.raw), "certificate": _base64(one.certificate_chain)}
            for one in evidence
        ],
        "claims_version": _CLAIMS[version],
    }
    return Question(
        url=f"{hosts.nras.rstrip('/')}/{version}/attest/{kind}",
        what="the word of NVIDIA's remote attestation service (NRAS)",
        id="nras.token",
        body=json.dumps(body).encode("ascii"),
        content_type="application/json",
    )


def jwks_question(hosts: Hosts) -> Question:
    """Ask for the keys of the remote attestation service, which change every day."""
    url = f"{hosts.nras.rstrip('/')}/.well-known/jwks.json"
    return Question(url=url, what="the keys of NVIDIA's attestation service", id="nras.key")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")

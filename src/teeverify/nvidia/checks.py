"""What each check of GPU evidence proves, in the order in which the checks are made."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["CHECKS", "NRAS_CHECKS"]

_AGAIN = "The evidence was changed on the way, or put together from several: get it again."
_FOREIGN = "Do not use this machine: its GPU is not one that NVIDIA made."

CHECKS: tuple[Check, ...] = (
    Check(
        id="gpu.evidence",
        claim="gpu",
        proves="The evidence has the form of a list of NVIDIA measurement reports with their "
        "certificates, and nothing follows a report.",
        fix="Pass the evidence whole and as received; one zero byte behind a report is skipped "
        "only where the caller says so.",
    ),
    Check(
        id="gpu.chain",
        claim="gpu",
        proves="NVIDIA certified this device, through the five certificates of such a chip.",
        fix=_FOREIGN,
    ),
    Check(
        id="gpu.device-type",
        claim="gpu",
        proves="The certificates say which chip it is, and what the container and the report say "
        "agrees with them.",
        fix="Do not rely on the names beside the evidence: this device is another than they say.",
    ),
    Check(
        id="gpu.report-signature",
        claim="gpu",
        proves="Every byte of the report, with the nonce and all measurements in it, is what the "
        "device's own key signed.",
        fix=_AGAIN,
    ),
    Check(
        id="gpu.nonce",
        claim="fresh",
        proves="The device signed this very nonce, so the report was made after the nonce was.",
        fix="Send a fresh nonce and verify against that; evidence for another nonce is recorded or "
        "belongs to another question.",
    ),
    Check(
        id="gpu.fwid",
        claim="gpu",
        proves="The firmware that made the attestation key is the one that the report names, "
        "where the report names one.",
        fix=_AGAIN,
    ),
    Check(
        id="gpu.distinct",
        claim="gpu",
        proves="The devices are as many as are listed: no certificate and no key comes twice.",
        fix="Count this machine's GPUs as fewer: one was presented as several.",
    ),
    Check(
        id="gpu.same-architecture",
        claim="gpu",
        proves="All GPUs of the list are of one architecture, as in one machine.",
        fix="The list mixes devices of several machines: get the evidence of one machine again.",
    ),
    Check(
        id="gpu.same-mode",
        claim="gpu",
        proves="All GPUs of the list state the same way of passing them through to the VM.",
        fix="The operator must set all GPUs of the machine to one mode.",
    ),
)

NRAS_CHECKS: tuple[Check, ...] = (
    Check(
        id="nras.token",
        claim="gpu_firmware",
        proves="The answer is a set of tokens of NVIDIA's production attestation service, and the "
        "tokens of the devices are those that the overall token lists.",
        fix="Use the service's answer as received, not one that the endpoint relays.",
    ),
    Check(
        id="nras.key",
        claim="gpu_firmware",
        proves="NVIDIA's attestation service signed every token, with a key that its own "
        "intermediate certified.",
        fix="Record the service's list of keys together with its answer: the keys change daily.",
    ),
    Check(
        id="nras.claims",
        claim="gpu_firmware",
        proves="NVIDIA states, and this is the time for which it does, that the evidence passed "
        "each of its checks on every device.",
        fix="Where NVIDIA says no, do not use this machine. Where the answer is out of its dates, "
        "ask again, or verify at the time when it was recorded.",
    ),
    Check(
        id="nras.nonce",
        claim="gpu_firmware",
        proves="NVIDIA's statement is about this nonce.",
        fix="Post the evidence with the nonce that it was made for.",
    ),
    Check(
        id="nras.devices",
        claim="gpu_firmware",
        proves="NVIDIA's statement is about exactly these devices, with the driver and VBIOS "
        "versions that they signed.",
        fix="Post all devices of the evidence, and no others, in one request.",
    ),
)

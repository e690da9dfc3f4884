"""What each check of GPU evidence proves, in the order in which the checks are made."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["CHECKS", "CRL_CHECKS", "NRAS_CHECKS", "OCSP_CHECKS", "RIM_CHECKS", "TOPOLOGY_CHECKS"]

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

RIM_CHECKS: tuple[Check, ...] = (
    Check(
        id="rim.present",
        claim="gpu_firmware",
        proves="There is a reference manifest (RIM) for each driver and VBIOS that a device named "
        "in its signed report.",
        fix="Get the manifests from NVIDIA's RIM service by the ids in the message, and pass them "
        "with the endorsements.",
    ),
    Check(
        id="rim.form",
        claim="gpu_firmware",
        proves="Each manifest has the one form, and the one kind of signature, that NVIDIA's have.",
        fix="Do not use this file: it is no manifest of NVIDIA, or it was changed on the way.",
    ),
    Check(
        id="rim.chain",
        claim="gpu_firmware",
        proves="NVIDIA certified the key that signed each manifest, and the certificates are "
        "valid at this time.",
        fix="Where a certificate expired, get the manifest again: NVIDIA signs them anew. With any "
        "other failure do not use the file.",
    ),
    Check(
        id="rim.signature",
        claim="gpu_firmware",
        proves="Each manifest is, in every name and value, what the certified key signed.",
        fix="Do not use this file: it was changed, or somebody else signed it.",
    ),
    Check(
        id="rim.subject",
        claim="gpu_firmware",
        proves="Each manifest is about the chip that the certificates name and the version that "
        "the device signed.",
        fix="Get the manifest again: this one is of something else than its id says.",
    ),
    Check(
        id="rim.conflict",
        claim="gpu_firmware",
        proves="Each manifest demands measurements, and none that another demands too.",
        fix="Get the manifests again; such a pair says nothing.",
    ),
    Check(
        id="rim.golden-values",
        claim="gpu_firmware",
        proves="Every measurement that NVIDIA's manifests demand has one of the golden values: "
        "the devices run NVIDIA's releases, in the mode in which those are measured.",
        fix="Do not use this machine: its GPU firmware is changed, in another mode, or was updated "
        "without a power cycle.",
    ),
)

OCSP_CHECKS: tuple[Check, ...] = (
    Check(
        id="ocsp.present",
        claim="gpu_firmware",
        proves="There is an answer about every certificate that NVIDIA's responder knows.",
        fix="Ask NVIDIA's OCSP responder, and pass the answers with the endorsements.",
    ),
    Check(
        id="ocsp.form",
        claim="gpu_firmware",
        proves="Each answer is a basic OCSP answer that can be read in only one way.",
        fix="Keep the responder's answers as received.",
    ),
    Check(
        id="ocsp.responder",
        claim="gpu_firmware",
        proves="Each answer is about exactly this certificate, and signed by its issuer or by whom "
        "the issuer appointed to answer.",
        fix="Do not use this answer: it is of somebody who may not give it.",
    ),
    Check(
        id="ocsp.current",
        claim="gpu_firmware",
        proves="Each answer is within its dates and not older than a day.",
        fix="Ask the responder again, or verify at the time of the recording.",
    ),
    Check(
        id="ocsp.status",
        claim="gpu_firmware",
        proves="No certificate is revoked, on hold, or unknown to its issuer.",
        fix="Do not use this machine: NVIDIA withdrew its word about it.",
    ),
)

CRL_CHECKS: tuple[Check, ...] = (
    Check(
        id="gpu.crl",
        claim="gpu_firmware",
        proves="No revocation list of NVIDIA that is at hand names one of the certificates.",
        fix="Where a list names one, do not use this machine; get an outdated list again.",
    ),
)

TOPOLOGY_CHECKS: tuple[Check, ...] = (
    Check(
        id="gpu.switches",
        claim="gpu_link",
        proves="Every GPU is linked with exactly these NVSwitches and every switch with exactly "
        "these GPUs, by identifiers that their certificates hold.",
        fix="Get the evidence of all GPUs and switches of one machine, for one nonce.",
    ),
)

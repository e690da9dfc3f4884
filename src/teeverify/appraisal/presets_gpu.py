"""The rows and parameters of the policy table that are about GPUs."""

from __future__ import annotations

from teeverify.appraisal.rows import Parameter, Row

__all__ = ["GPU_PARAMETERS", "GPU_ROWS"]

GPU_ROWS: tuple[Row, ...] = (
    Row(
        id="gpu.required",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="as many genuine GPUs, of the architectures, as the policy demands",
    ),
    Row(
        id="gpu.measurements",
        genuine="asserted",
        strict="proven",
        floor="note",
        asks="driver and VBIOS are NVIDIA's: measurements equal the RIMs, or NRAS says so",
    ),
    Row(
        id="gpu.device",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="of GPU evidence alone: each device's measurements equal NVIDIA's manifests",
    ),
    Row(
        id="gpu.switches",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="GPUs and NVSwitches name each other; needed where eight GPUs are in protected PCIe "
        "mode, and wrong links always refuse",
    ),
    Row(
        id="gpu.revocation",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="no certificate of the GPUs is revoked or on hold",
    ),
    Row(
        id="gpu.binding",
        genuine="asserted",
        strict="proven",
        floor="asserted",
        asks="the GPU evidence is tied to the CPU evidence, better than by an equal nonce",
    ),
    Row(
        id="gpu.attachment",
        genuine="note",
        strict="note",
        floor="note",
        asks="recorded only: no vendor can prove yet that a GPU sits in this machine",
    ),
)

GPU_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="gpu.required",
        genuine=True,
        strict=True,
        item=bool,
        asks="whether there must be a GPU at all; the first sentence repeats a 'false'",
    ),
    Parameter(
        name="gpu.count",
        genuine=None,
        strict=None,
        wish=True,
        item=int,
        asks="exact number of GPUs; 'strict' wants it said",
    ),
    Parameter(
        name="gpu.count_required",
        genuine=False,
        strict=True,
        item=bool,
        asks="whether gpu.count and gpu.architectures must be said",
    ),
    Parameter(
        name="gpu.architectures",
        genuine=[],
        strict=[],
        wish=True,
        asks="if not empty: the only architectures accepted, for example Hopper",
        form="Hopper|Blackwell",
    ),
    Parameter(
        name="gpu.measurements",
        genuine=["rim", "nras"],
        strict=["rim"],
        asks="what may say that driver and VBIOS are NVIDIA's, any of these: rim (its manifests, "
        "compared here), nras (the word of its service); what is asked must agree",
        form="rim|nras",
    ),
    Parameter(
        name="gpu.allow_expired_rim_signers",
        genuine=False,
        strict=False,
        item=bool,
        asks="whether manifests (RIMs) whose signer's certificates were valid once and have "
        "expired pass, with a warning",
    ),
    Parameter(
        name="gpu.links",
        genuine=["hash-in-quote", "mutual"],
        strict=["hash-in-quote", "mutual"],
        asks="CPU-GPU binding classes that count as proven",
        form="same-nonce|hash-in-quote|mutual",
    ),
)

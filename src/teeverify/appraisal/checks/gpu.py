"""Are the GPUs the ones wanted, is their firmware NVIDIA's, and are they tied to this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examine import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed, EndorsementUnavailable

__all__ = ["attachment", "binding", "measurements", "required", "revocation"]

_CODE = "the attested code"


def required(subject: Subject) -> Iterator[Observation]:
    """Count the verified GPUs, and look at their architectures."""
    policy = subject.policy
    count = subject.gpu_count
    wanted = policy["gpu.count"]
    architectures = sorted(
        {d.architecture for m in subject.machines if m.gpus for d in m.gpus.devices}
    )
    foreign = [
        a
        for a in architectures
        if policy["gpu.architectures"] and a not in policy["gpu.architectures"]
    ]
    said = wanted is not None and bool(policy["gpu.architectures"])
    got = f"{count} {', '.join(architectures)}".strip()
    if not count and not policy["gpu.required"]:
        text = "No GPU was verified, and your policy wants none (gpu.required = false)."
        yield Observation.proven("gpu.required", text, concern=True)
    elif not count or (wanted is not None and count != wanted) or foreign:
        yield Observation.failed(
            AppraisalFailed(
                "no GPU was verified" if not count else "these are not the GPUs that you want",
                id="gpu.required",
                got=got,
                want=f"{wanted if wanted is not None else 'at least 1'} "
                f"{', '.join(policy['gpu.architectures'])}".strip(),
                hint="Where no GPU is expected, the policy must say gpu.required = false.",
            )
        )
    elif policy["gpu.count_required"] and not said:
        yield Observation.absent(
            "gpu.required",
            "The policy does not say how many GPUs of which architecture there must be.",
            got=got,
            want="gpu.count and gpu.architectures",
        )
    else:
        yield Observation.proven("gpu.required", f"{count} GPUs verified.", got=got)


def _with_gpus(subject: Subject) -> Iterator[tuple[ExaminedMachine, str]]:
    for machine in subject.machines:
        if machine.machine.gpus is not None:
            yield machine, machine.machine.label


def measurements(subject: Subject) -> Iterator[Observation]:
    """NVIDIA's reference manifests, or NVIDIA's own service, must know the firmware."""
    for machine, label in _with_gpus(subject):
        if machine.nras is not None:
            versions = sorted({f"driver {d.driver_version}" for d in machine.nras.devices})
            yield Observation.asserted(
                "gpu.measurements",
                "NVIDIA's service (NRAS) says that driver and VBIOS are its releases; "
                "they were not compared here.",
                by="NVIDIA's NRAS, as the recorder kept its answer",
                subject=label,
                got=", ".join(versions),
            )
        else:
            yield Observation.failed(
                EndorsementUnavailable(
                    "nothing says whose driver and VBIOS the GPUs run: there is no NRAS answer "
                    "that holds",
                    id="gpu.measurements",
                    hint="Record one beside the evidence.",
                ),
                subject=label,
            )


def revocation(subject: Subject) -> Iterator[Observation]:
    """OCSP tells about now only: what was not recorded then cannot be had later."""
    for machine, label in _with_gpus(subject):
        if machine.nras is not None and machine.nras.revocation_checked:
            yield Observation.asserted(
                "gpu.revocation",
                "NVIDIA's service (NRAS) says that no certificate is revoked.",
                by="NVIDIA's NRAS, as the recorder kept its answer",
                subject=label,
            )
        else:
            yield Observation.absent(
                "gpu.revocation",
                "Whether the GPUs' certificates were revoked was not recorded.",
                subject=label,
            )


def binding(subject: Subject) -> Iterator[Observation]:
    """Say how the GPU evidence is tied to the CPU evidence."""
    accepted = subject.policy["gpu.links"]
    for machine, label in _with_gpus(subject):
        link = machine.layout.gpu_link if machine.layout and machine.gpus else "none"
        if link == "none":
            yield Observation.failed(
                AppraisalFailed(
                    "nothing ties the GPU evidence to the CPU evidence",
                    id="gpu.binding",
                    got="none",
                    want=", ".join(accepted),
                ),
                subject=label,
            )
        elif link in accepted:
            yield Observation.proven(
                "gpu.binding", "The GPU evidence is hashed into the quote.", subject=label, got=link
            )
        else:
            yield Observation.asserted(
                "gpu.binding",
                "CPU and GPUs answered the same nonce; GPUs elsewhere could have answered it too.",
                by=_CODE,
                subject=label,
                got=link,
            )


def attachment(subject: Subject) -> Iterator[Observation]:
    """Record that nobody can prove where a GPU sits."""
    for machine, label in _with_gpus(subject):
        if machine.gpus is not None:
            yield Observation.asserted(
                "gpu.attachment",
                "That the GPUs sit in this machine is the attested code's word; no vendor can "
                "prove it yet.",
                by=_CODE,
                subject=label,
            )

"""Are the GPUs the ones wanted, is their firmware NVIDIA's, and are they tied to this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examine import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.policy import Policy
from teeverify.errors import AppraisalFailed, BindingMismatch, EndorsementUnavailable
from teeverify.nvidia import MeasurementClaims

__all__ = [
    "attachment",
    "binding",
    "devices",
    "distinct",
    "measurements",
    "required",
    "revocation",
]

_CODE = "the attested code"


def required(subject: Subject) -> Iterator[Observation]:
    """Every machine that runs a model must have the GPUs that the policy wants, each its own."""
    machines = subject.model_machines
    for machine in machines:
        yield _required(subject.policy, machine)
    if not machines:
        yield _required(subject.policy, None)


def _required(policy: Policy, machine: ExaminedMachine | None) -> Observation:
    label = machine.machine.label if machine else ""
    gpus = machine.gpus.gpus if machine is not None and machine.gpus is not None else ()
    architectures = sorted({gpu.architecture for gpu in gpus})
    got = " ".join([str(len(gpus)), *architectures])
    count, wanted = policy["gpu.count"], policy["gpu.architectures"]
    if not gpus and not policy["gpu.required"] and not count:
        text = "No GPU was verified, and your policy wants none (gpu.required = false)."
        return Observation.proven("gpu.required", text, subject=label, concern=True)
    right_kind = not wanted or set(architectures) <= set(wanted)
    if not gpus or count not in (None, len(gpus)) or not right_kind:
        want = " ".join(["at least 1" if count is None else str(count), *wanted])
        error = AppraisalFailed(
            "these are not the GPUs that you want" if gpus else "no GPU was verified",
            id="gpu.required",
            got=got,
            want=want,
            hint=None if gpus else "Where none is expected, say gpu.required = false.",
        )
        return Observation.failed(error, subject=label)
    if policy["gpu.count_required"] and (count is None or not wanted):
        return Observation.absent(
            "gpu.required",
            "The policy does not say how many GPUs of which architecture there must be.",
            subject=label,
            got=got,
            want="gpu.count and gpu.architectures",
        )
    return Observation.proven("gpu.required", f"{len(gpus)} GPUs.", subject=label, got=got)


def distinct(subject: Subject) -> Iterator[Observation]:
    """No GPU may stand in the lists of two machines; within a list, its verification looked."""
    seen: dict[str | bytes, ExaminedMachine] = {}
    for machine, label in _with_gpus(subject):
        for device in machine.gpus.devices if machine.gpus is not None else ():
            for identity in (device.ueid, device.leaf_spki, device.device_ca_sha256):
                first = seen.setdefault(identity, machine)
                if first is machine:
                    continue
                error = BindingMismatch(
                    f"one device is presented by two machines: {first.machine.label} and {label}",
                    id="gpu.distinct",
                    got=f"serial number {device.ueid}",
                    want="a device of its own in each machine",
                )
                yield Observation.failed(error, subject=label)
                return


def _with_gpus(subject: Subject) -> Iterator[tuple[ExaminedMachine, str]]:
    for machine in subject.machines:
        if machine.machine.gpus is not None:
            yield machine, machine.machine.label


def _nras(subject: Subject) -> str:
    """By whom an NRAS answer is asserted: by NVIDIA, through whoever handed it over."""
    if subject.examined.evidence.live:
        return "NVIDIA's NRAS, as the endpoint passed its answer on"
    return "NVIDIA's NRAS, as the recorder kept its answer"


def devices(subject: Subject) -> Iterator[Observation]:
    """Say of each device of bare evidence what is known of its firmware."""
    for machine, _ in _with_gpus(subject):
        compared = machine.firmware.measurements
        counts = {} if compared is None else {one.index: one for one in compared.devices}
        for device in machine.gpus.devices if machine.gpus is not None else ():
            found = counts.get(device.index)
            if found is not None:
                yield Observation.proven(
                    "gpu.device",
                    f"{device.described}: {len(found.compared)} measurements equal NVIDIA's "
                    f"manifests, {len(found.not_compared)} have no golden value.",
                    subject=device.name,
                )
            elif machine.nras is not None and not machine.firmware.compared:
                yield Observation.asserted(
                    "gpu.device",
                    f"{device.described}: NVIDIA's service (NRAS) says that this is its release; "
                    "nothing was compared here.",
                    by=_nras(subject),
                    subject=device.name,
                )
            else:
                yield Observation.absent(
                    "gpu.device",
                    f"{device.described}: a genuine NVIDIA {device.device_type} in an unknown "
                    "mode, for its measurements were compared with nothing.",
                    subject=device.name,
                )


def measurements(subject: Subject) -> Iterator[Observation]:
    """NVIDIA's reference manifests, or NVIDIA's own service, must know the firmware."""
    for machine, label in _with_gpus(subject):
        compared = machine.firmware.measurements
        if compared is not None:
            yield _compared(compared, label)
        elif machine.firmware.compared:
            yield Observation.absent(
                "gpu.measurements",
                "The comparison with NVIDIA's manifests (RIMs) failed; nothing else counts then.",
                subject=label,
            )
        elif machine.nras is not None:
            versions = sorted({f"driver {d.driver_version}" for d in machine.nras.devices})
            yield Observation.asserted(
                "gpu.measurements",
                "NVIDIA's service (NRAS) says that driver and VBIOS are its releases; "
                "they were not compared here.",
                by=_nras(subject),
                subject=label,
                got=", ".join(versions),
            )
        else:
            missing = machine.firmware.missing.get("rim.present")
            yield Observation.failed(
                EndorsementUnavailable(
                    "nothing says whose driver and VBIOS the GPUs run: there is no NRAS answer "
                    "that holds, and no full set of NVIDIA's reference manifests (RIMs)",
                    id="gpu.measurements",
                    want=None if missing is None else missing.want,
                    hint="Give NVIDIA's manifests, or record NRAS's answer beside the evidence.",
                ),
                subject=label,
            )


def _compared(compared: MeasurementClaims, label: str) -> Observation:
    """Measurements that equal NVIDIA's manifests; a warning where a signer has expired."""
    expired = compared.expired_signers
    text = "Every measurement that NVIDIA's manifests (RIMs) demand was compared here and is equal."
    if expired:
        text += (
            " But your policy accepts manifests whose signer has expired: "
            f"{', '.join(expired)} (gpu.allow_expired_rim_signers)."
        )
    return Observation.proven(
        "gpu.measurements",
        text,
        subject=label,
        got=", ".join(sorted({f"{rim.edition} {rim.version}" for rim in compared.rims.values()})),
        concern=bool(expired),
    )


def revocation(subject: Subject) -> Iterator[Observation]:
    """OCSP tells about now only: what was not recorded then cannot be had later."""
    for machine, label in _with_gpus(subject):
        found = machine.firmware.revocation
        if found is not None:
            signers = ", and of the manifests' signers," if found.signers_included else ""
            yield Observation.proven(
                "gpu.revocation",
                f"NVIDIA's OCSP responder says of every certificate of the GPUs{signers} that it "
                "is good, within the last day.",
                subject=label,
                got=f"{len(found.certificates)} certificates",
            )
        elif machine.nras is not None and machine.nras.revocation_checked:
            yield Observation.asserted(
                "gpu.revocation",
                "NVIDIA's service (NRAS) says that no certificate is revoked.",
                by=_nras(subject),
                subject=label,
            )
        elif subject.examined.evidence.live:
            error = EndorsementUnavailable(
                "nothing says whether the GPUs' certificates were revoked",
                id="gpu.revocation",
                hint="Pass --endorsements PATH with NVIDIA's OCSP answers of today.",
            )
            yield Observation.failed(error, subject=label, hard=True)
        else:
            missing = machine.firmware.missing.get("ocsp.present")
            yield Observation.absent(
                "gpu.revocation",
                "Whether the GPUs' certificates were revoked was not recorded.",
                subject=label,
                got=None if missing is None else missing.got,
                want=None if missing is None else missing.want,
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
        elif link in accepted and link != "same-nonce":
            yield Observation.proven(
                "gpu.binding", "The GPU evidence is hashed into the quote.", subject=label, got=link
            )
        elif link in accepted:
            yield Observation.proven(
                "gpu.binding",
                "CPU and GPUs answered the same nonce, which your policy takes for enough.",
                subject=label,
                got=link,
                concern=True,
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

"""Are the GPUs the ones wanted, is their firmware NVIDIA's, and are they tied to this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.policy import Policy
from teeverify.errors import AppraisalFailed, BindingMismatch, EndorsementUnavailable
from teeverify.nvidia import DeviceClaims, MeasurementClaims, NrasClaims

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
            for identity in (device.ueid, device.leaf_spki, device.device_ca_spki):
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
    if subject.examined.evidence.nras_posted:
        return "NVIDIA's NRAS, to which this evidence was posted here"
    return "NVIDIA's NRAS, as the recorder kept its answer"


def devices(subject: Subject) -> Iterator[Observation]:
    """Say of each device what is proven of it, what is only said, and what nobody shows."""
    for machine, _ in _with_gpus(subject):
        for device in machine.gpus.devices if machine.gpus is not None else ():
            yield _device(subject, machine, device)


def _device(subject: Subject, machine: ExaminedMachine, device: DeviceClaims) -> Observation:
    compared = machine.firmware.measurements
    counts = {} if compared is None else {one.index: one for one in compared.devices}
    found = counts.get(device.index)
    genuine = f"{device.described}: a genuine NVIDIA {device.device_type}"
    if found is not None:
        skipped = f", {len(found.skipped)} of a decoder that is off" if found.skipped else ""
        return Observation.proven(
            "gpu.device",
            f"{genuine}, of which {len(found.compared)} measurements equal NVIDIA's manifests, "
            f"{len(found.not_compared)} have no golden value{skipped}. {_stated(device)}",
            subject=device.name,
        )
    if machine.nras is not None and not machine.firmware.compared:
        return Observation.asserted(
            "gpu.device",
            f"{genuine}, of which NVIDIA's service (NRAS) says that it runs its release; nothing "
            f"was compared here. {_stated(device)}",
            by=_nras(subject),
            subject=device.name,
        )
    return Observation.absent(
        "gpu.device",
        f"{genuine} in an unknown mode: its measurements were compared with nothing, so nothing "
        f"shows that it is confidential. {_stated(device)}",
        subject=device.name,
    )


_MODES = {
    "SPT": "passed through alone",
    "MPT": "passed through with others",
    "PPCIE": "in protected PCIe mode",
}


def _stated(device: DeviceClaims) -> str:
    """What the device itself signed about its mode, and which identity its firmware has."""
    mode = _MODES.get(device.feature_flag or "")
    said = f"says that it is {mode}" if mode else "does not say in which mode it is"
    fwid = "is the certified one" if device.fwid_state == "match" else "is not in its report"
    return f"It {said}; its firmware identity (FWID) {fwid}."


def measurements(subject: Subject) -> Iterator[Observation]:
    """Whatever the policy names must know the firmware: NVIDIA's manifests, or its service."""
    accepted = subject.policy["gpu.measurements"]
    for machine, label in _with_gpus(subject):
        compared = machine.firmware.measurements
        if compared is not None and "rim" in accepted:
            yield _compared(compared, machine.nras, label)
        elif machine.firmware.compared and compared is None:
            yield Observation.absent(
                "gpu.measurements",
                "The comparison with NVIDIA's manifests (RIMs) failed; nothing else counts then.",
                subject=label,
            )
        elif machine.nras is not None:
            yield _only_said(subject, machine.nras, label)
        else:
            yield _unmeasured(machine, accepted, label)


def _only_said(subject: Subject, nras: NrasClaims, label: str) -> Observation:
    """NVIDIA's word alone: the policy says whether it takes that."""
    policy = subject.policy
    # Where it must be proven, a word is not enough anyway, and the level says so.
    if "nras" not in policy["gpu.measurements"] and policy.level("gpu.measurements") != "proven":
        return Observation.absent(
            "gpu.measurements",
            "For the GPUs' firmware there is only the word of NVIDIA's service (NRAS), which your "
            "policy does not take (gpu.measurements).",
            subject=label,
        )
    return Observation.asserted(
        "gpu.measurements",
        "NVIDIA's service (NRAS) says that driver and VBIOS are its releases; "
        "they were not compared here.",
        by=_nras(subject),
        subject=label,
        got=", ".join(sorted({f"driver {d.driver_version}" for d in nras.devices})),
    )


def _unmeasured(machine: ExaminedMachine, accepted: list[str], label: str) -> Observation:
    """Nothing that the policy takes says whose firmware it is."""
    missing = machine.firmware.missing.get("rim.present")
    words = {
        "rim": "no full set of NVIDIA's reference manifests (RIMs)",
        "nras": "no NRAS answer that holds",
    }
    lacking = ", and ".join(words[one] for one in accepted) or "nothing that your policy takes"
    return Observation.failed(
        EndorsementUnavailable(
            f"nothing says whose driver and VBIOS the GPUs run: there is {lacking}",
            id="gpu.measurements",
            want=None if missing is None else missing.want,
            hint="Give NVIDIA's manifests with --endorsements PATH, or let them be fetched.",
        ),
        subject=label,
    )


def _compared(compared: MeasurementClaims, nras: NrasClaims | None, label: str) -> Observation:
    """Measurements that equal NVIDIA's manifests; a warning where a signer has expired."""
    expired = compared.expired_signers
    text = "Every measurement that NVIDIA's manifests (RIMs) demand was compared here and is equal."
    if nras is not None:
        text += " NVIDIA's service (NRAS) says the same."
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
                "NVIDIA's service (NRAS) says that no certificate is revoked; no revocation list "
                "or OCSP answer was checked here.",
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

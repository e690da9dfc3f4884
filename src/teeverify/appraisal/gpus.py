"""Examine what GPUs run and how they are linked, with whatever of NVIDIA's is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from teeverify import nvidia
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.steps import ordered
from teeverify.errors import EvidenceError, TeeVerifyError
from teeverify.roots import Roots

__all__ = ["GpuFirmware", "examine_firmware"]


@dataclass(slots=True, kw_only=True)
class GpuFirmware:
    """What was found beyond the devices themselves.

    Attributes:
        measurements: Their measurements equal NVIDIA's manifests.
        revocation: None of their certificates is revoked.
        topology: GPUs and switches name each other.
        compared: Whether there were manifests for all of it, with whatever outcome.
        missing: What was missing for one of these, by the id of the check that looked for it.
    """

    measurements: nvidia.MeasurementClaims | None = None
    revocation: nvidia.RevocationClaims | None = None
    topology: nvidia.TopologyClaims | None = None
    compared: bool = False
    missing: dict[str, TeeVerifyError]


def examine_firmware(  # noqa: PLR0913 -- the question in its parts
    gpus: nvidia.Claims,
    endorsements: nvidia.Endorsements | None,
    into: list[Observation],
    label: str,
    *,
    at: datetime,
    roots: Roots,
    allow_expired_signers: bool,
) -> GpuFirmware:
    """Examine measurements, revocation and links.

    What is at hand must be right: a manifest or an answer that is wrong is an observation that
    refuses, whatever else says yes. What is not at hand is only noted.

    Args:
        gpus: The devices, as verified.
        endorsements: What of NVIDIA's is at hand.
        into: Where the observations go.
        label: The machine.
        at: The time of the appraisal.
        roots: The trust anchors.
        allow_expired_signers: Whether manifests of expired signers pass.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    found = GpuFirmware(missing={})
    run = partial(ordered, into, label)

    def missing(error: TeeVerifyError) -> None:
        found.missing[error.id] = error

    devices = gpus.devices
    given = nvidia.Endorsements() if endorsements is None else endorsements
    if given.rims:
        found.measurements = run(
            nvidia.RIM_CHECKS,
            lambda: given.verify_measurements(
                devices, at=at, roots=roots, allow_expired_signers=allow_expired_signers
            ),
            optional=missing,
        )
        found.compared = not found.missing
        if found.missing:
            try:
                given.refute_measurements(
                    devices, at=at, roots=roots, allow_expired_signers=allow_expired_signers
                )
            except EvidenceError as error:
                found.compared = True
                into.append(Observation.failed(error, subject=label))
    if given.crls:
        run(
            nvidia.CRL_CHECKS,
            lambda: given.verify_crls(devices, at=at, measurements=found.measurements),
        )
    if given.ocsp:
        found.revocation = run(
            nvidia.OCSP_CHECKS,
            lambda: given.verify_revocation(devices, at=at, measurements=found.measurements),
            optional=missing,
        )
    if gpus.switches and gpus.gpus:
        found.topology = run(nvidia.TOPOLOGY_CHECKS, lambda: nvidia.verify_topology(devices))
    elif gpus.switches or nvidia.needs_switches(devices):
        into.append(_half(gpus, label))
    return found


def _half(gpus: nvidia.Claims, label: str) -> Observation:
    """GPUs that are linked by switches without these, or the other way round."""
    have, lack = ("NVSwitches", "GPUs") if gpus.switches else ("GPUs", "NVSwitches")
    return Observation.absent(
        "gpu.switches",
        f"These {have} work with {lack} of the same machine, of which there is no evidence.",
        subject=label,
        want=f"the evidence of the {lack}, for the same nonce",
    )

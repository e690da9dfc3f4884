"""Are a device's measurements those of NVIDIA's releases?

Everything is compared here, on this machine, with manifests that NVIDIA signed; their ids are made
of what the device signed, never of what stands beside the evidence.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime

from teeverify.encoding.sealed import Seal, Sealed
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import (
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    TcbRejected,
)
from teeverify.nvidia.chips import chip_named
from teeverify.nvidia.claims import DeviceClaims
from teeverify.nvidia.rim import GoldenValue, RimClaims, verify_rim
from teeverify.roots.anchors import RootsInput, RootsKind, as_roots

__all__ = [
    "DeviceMeasurements",
    "MeasurementClaims",
    "compare_manifest",
    "compare_measurements",
    "refute_measurements",
    "rim_ids",
]

PRESENT = "rim.present"
SUBJECT = "rim.subject"
CONFLICT = "rim.conflict"
GOLDEN = "rim.golden-values"
# The measurement of video decoder 0, which is switched off in confidential mode.
NVDEC0_INDEX = 35
# A cold reset is needed after a VBIOS update, or this one keeps the value of before.
_RESET_INDEX = 9
# NVIDIA's tools know one board of the third NVSwitch generation.
_SWITCH_BOARD = "5612_0002_890"
_FIRST_BLACKWELL = "GB100"  # its reports do not name the chip
_ID = re.compile(r"[A-Z0-9_.]{1,96}")
_SHOWN = 8
_SEAL = Seal("nvidia.compare_measurements")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMeasurements:
    """What was compared of one device. Indices are those of the manifests.

    Attributes:
        index: Position of the device in the evidence.
        rims: Ids of its manifests.
        compared: Measurements that equal a golden value.
        skipped: Those that NVIDIA's own rule leaves out: of a decoder that is switched off.
        not_compared: Those for which there is no active golden value.
    """

    index: int
    rims: tuple[str, ...]
    compared: tuple[int, ...]
    skipped: tuple[int, ...]
    not_compared: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementClaims(Sealed):
    """The measurements of all devices equal NVIDIA's golden values: they run its releases.

    Attributes:
        devices: What was compared, device by device.
        rims: The manifests that were used, by id.
        expires_at: When the first certificate, of a device or of a signer, expires.
        expired_signers: Ids of manifests whose signer had expired and was let pass on demand.
        roots_kind: Which kind of roots everything leads to.
    """

    devices: tuple[DeviceMeasurements, ...]
    rims: Mapping[str, RimClaims]
    expires_at: datetime
    expired_signers: tuple[str, ...]
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`compare_measurements` makes it."""
        self._check_seal(seal, _SEAL)


def rim_ids(device: DeviceClaims) -> tuple[str, ...]:
    """The ids of the manifests that a device needs, made of what it signed.

    Raises:
        MalformedEvidence: It signed something of which no id can be made.
    """
    return tuple(_needed(device))


def _needed(device: DeviceClaims) -> dict[str, str]:
    """The ids, each with the version that its manifest must be of."""
    driver = chip_named(device.chip).driver_rim
    bios = device.vbios_version.replace(".", "").upper()
    if driver is None:
        found = {f"NV_SWITCH_BIOS_{_SWITCH_BOARD}_{bios}": device.vbios_version}
    else:
        board = (device.project, device.project_sku, device.chip_sku)
        name = driver.format(chip=device.chip_info or _FIRST_BLACKWELL)
        found = {
            f"{name}_{device.driver_version or ''}": device.driver_version or "",
            f"NV_GPU_VBIOS_{'_'.join(part or '' for part in board)}_{bios}": device.vbios_version,
        }
    for one in found:
        # It goes into a URL and a file name; an empty part leaves two underscores, or one behind.
        if not _ID.fullmatch(one) or ".." in one or "__" in one or one.endswith("_"):
            raise MalformedEvidence(
                f"{device.name}: no id of a manifest can be made of what it signed",
                id=PRESENT,
                field=device.name,
                got=ascii(one)[:120],
            )
    return found


def compare_measurements(
    devices: Sequence[DeviceClaims],
    find: Callable[[str], bytes | None],
    *,
    at: datetime | str,
    roots: RootsInput = None,
    memory: Remembering | None = None,
    allow_expired_signers: bool = False,
) -> MeasurementClaims:
    """Compare the measurements of devices with NVIDIA's golden values.

    Args:
        devices: The devices, as verified here.
        find: Gives the manifest with an id, or ``None``. What it gives is not trusted.
        at: The time at which the signers' certificates must be valid.
        roots: Other roots than the embedded ones.
        memory: What was verified before; the manifests are added.
        allow_expired_signers: See :func:`~teeverify.nvidia.verify_rim`.

    Raises:
        ConfigurationError: No devices, devices under other roots, or a wrong argument.
        EndorsementUnavailable: A manifest is missing, or its signer is outside its dates.
        MalformedEvidence: A manifest of another form.
        ChainInvalid: A manifest's signer is not certified by NVIDIA.
        SignatureInvalid: A manifest was changed.
        EndorsementInvalid: A manifest is of another product or version, compares nothing, or
            contradicts the other.
        TcbRejected: A measurement is none of the golden values.
    """
    trusted = as_roots(roots)
    if not devices or not all(isinstance(device, DeviceClaims) for device in devices):
        raise ConfigurationError("devices are nvidia.DeviceClaims", id="usage.evidence")
    if {device.roots_kind for device in devices} != {trusted.kind}:
        raise ConfigurationError("the devices were verified under other roots", id="usage.roots")
    needed = [rim_ids(device) for device in devices]
    files = {one: find(one) for ids in needed for one in ids}
    missing = sorted(one for one, raw in files.items() if raw is None)
    if missing:
        raise EndorsementUnavailable(
            "NVIDIA's reference manifests (RIMs) of this firmware are not at hand",
            id=PRESENT,
            got="none" if len(missing) == len(files) else f"{len(files) - len(missing)} others",
            want=", ".join(missing),
            hint="Get them from NVIDIA's RIM service by these ids, and pass --endorsements DIR.",
        )
    rims = {
        one: verify_rim(
            raw,
            at=at,
            roots=trusted,
            memory=memory,
            allow_expired_signer=allow_expired_signers,
            name=f"RIM {one}",
        )
        for one, raw in files.items()
        if raw is not None
    }
    for device, ids in zip(devices, needed, strict=True):
        _require_subject(device, {one: rims[one] for one in ids})
    for ids in needed:
        _require_no_conflict({one: rims[one] for one in ids})
    ends = [rim.expires_at for rim in rims.values() if not rim.signer_expired]
    ends += [device.expires_at for device in devices]
    return MeasurementClaims(
        devices=tuple(
            _compare(device, {one: rims[one] for one in ids})
            for device, ids in zip(devices, needed, strict=True)
        ),
        rims=rims,
        expires_at=min(ends),
        expired_signers=tuple(sorted(one for one, rim in rims.items() if rim.signer_expired)),
        roots_kind=trusted.kind,
        seal=_SEAL,
    )


def refute_measurements(
    devices: Sequence[DeviceClaims],
    find: Callable[[str], bytes | None],
    *,
    at: datetime | str,
    roots: RootsInput = None,
    memory: Remembering | None = None,
    allow_expired_signers: bool = False,
) -> None:
    """Where not all manifests are at hand: no measurement may contradict those that are.

    Takes the arguments of :func:`compare_measurements`. What passes here proves nothing.

    Raises:
        TeeVerifyError: As there, but for what is missing or outside its dates.
    """
    for device in devices:
        for one in rim_ids(device):
            raw = find(one)
            if raw is None:
                continue
            try:
                rim = verify_rim(
                    raw,
                    at=at,
                    roots=roots,
                    memory=memory,
                    allow_expired_signer=allow_expired_signers,
                    name=f"RIM {one}",
                )
            except EndorsementUnavailable:
                continue
            _require_subject(device, {one: rim})
            _compare(device, {one: rim})


def compare_manifest(device: DeviceClaims, rim: RimClaims) -> DeviceMeasurements:
    """Compare one device with one manifest alone, which is a part of what it needs.

    Args:
        device: The device.
        rim: The manifest of its driver, or of its VBIOS.

    Raises:
        EndorsementInvalid: It is of another product or version, or demands no measurement.
        TcbRejected: A measurement is none of the golden values.
        ConfigurationError: Arguments that were not verified, or under other roots than each other.
    """
    if not isinstance(device, DeviceClaims) or not isinstance(rim, RimClaims):
        raise ConfigurationError("compare what was verified", id="usage.evidence")
    if device.roots_kind != rim.roots_kind:
        raise ConfigurationError("they were verified under different roots", id="usage.roots")
    versions = _needed(device)
    of_version = [one for one, version in versions.items() if _same(version, rim.version)]
    rims = {(of_version or list(versions))[0]: rim}
    _require_subject(device, rims)
    _require_no_conflict(rims)
    return _compare(device, rims)


def _same(one: str, other: str) -> bool:
    """Versions are compared exactly, but for letter case."""
    return one.upper() == other.upper()


def _require_subject(device: DeviceClaims, rims: Mapping[str, RimClaims]) -> None:
    """The manifests must be of this chip and of the versions that the device signed.

    The service finds a manifest by its id, which nothing in the manifest repeats.
    """
    chip = chip_named(device.chip)
    edition = "GPU" if device.device_type == "GPU" else "SWITCH"
    versions = _needed(device)
    for name, rim in rims.items():
        for what, got, want, good in (
            ("product", rim.product, chip.rim_product, re.fullmatch(chip.rim_product, rim.product)),
            ("edition", rim.edition, edition, rim.edition == edition),
            ("version", rim.version, versions[name], _same(rim.version, versions[name])),
        ):
            if not good:
                raise EndorsementInvalid(
                    f"{device.name}: the manifest {name} is of another {what}",
                    id=SUBJECT,
                    got=got,
                    want=want,
                )


def _require_no_conflict(rims: Mapping[str, RimClaims]) -> None:
    """Each manifest must demand something, and no measurement may be demanded by two."""
    owners: dict[int, str] = {}
    for name, rim in rims.items():
        if not rim.active:
            raise EndorsementInvalid(f"the manifest {name} demands no measurement", id=CONFLICT)
        for value in rim.active:
            other = owners.setdefault(value.index, name)
            if other is not name:
                raise EndorsementInvalid(
                    "two manifests demand the same measurement",
                    id=CONFLICT,
                    got=f"index {value.index} in {other} and {name}",
                    want="each measurement in one of them",
                )


def _compare(device: DeviceClaims, rims: Mapping[str, RimClaims]) -> DeviceMeasurements:
    """Compare one device: each active golden value must be met."""
    # A manifest counts the measurement blocks from 0, SPDM from 1.
    measured = {item.index - 1: item.value for item in device.measurements}
    compared: list[int] = []
    skipped: list[int] = []
    wrong: list[GoldenValue] = []
    for value in sorted((v for rim in rims.values() for v in rim.active), key=lambda v: v.index):
        if value.index == NVDEC0_INDEX and _decoder_is_off(device):
            skipped.append(value.index)
        elif _is_met(value, measured.get(value.index)):
            compared.append(value.index)
        else:
            wrong.append(value)
    if wrong or not compared:
        raise _not_golden(device, wrong, measured)
    return DeviceMeasurements(
        index=device.index,
        rims=tuple(rims),
        compared=tuple(compared),
        skipped=tuple(skipped),
        not_compared=tuple(sorted(measured.keys() - {*compared, *skipped})),
    )


def _decoder_is_off(device: DeviceClaims) -> bool:
    """Only a GPU that signed so: where a report says nothing, the value is compared."""
    return device.device_type == "GPU" and device.nvdec0_enabled is False


def _is_met(value: GoldenValue, measured: bytes | None) -> bool:
    return measured is not None and any(
        hmac.compare_digest(measured, golden) for golden in value.alternatives
    )


def _not_golden(
    device: DeviceClaims, wrong: Sequence[GoldenValue], measured: Mapping[int, bytes]
) -> TcbRejected:
    indices = [
        f"{value.index}" if value.index in measured else f"{value.index} (not measured)"
        for value in wrong
    ]
    more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    hint = "It runs other firmware than NVIDIA's release of the versions that it names."
    if _RESET_INDEX in {value.index for value in wrong}:
        hint += " After a VBIOS update the operator must power-cycle the machine."
    return TcbRejected(
        f"{device.name}: its measurements are not NVIDIA's golden values",
        id=GOLDEN,
        got=f"another value at index {', '.join(indices[:_SHOWN])}{more}" if wrong else "none",
        want="one of the golden values at every active index",
        hint=hint,
    )

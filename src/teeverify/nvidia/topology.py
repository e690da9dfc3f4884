"""Do the GPUs and NVSwitches of one machine name each other, and nobody else?

In protected PCIe mode each device signs which devices it is linked with, by an identifier (PDI)
that is also the end of the serial number of its certificate. So a device of another machine, even
a genuine one, does not fit in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass

from teeverify.encoding.reader import Reader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.nvidia.claims import DeviceClaims
from teeverify.nvidia.spdm import GPU_PDIS, PDI
from teeverify.roots.anchors import RootsKind

__all__ = ["TopologyClaims", "needs_switches", "verify_topology"]

ID = "gpu.switches"
_PDI_BYTES = 8
_MAX_GPUS = 8
_UNUSED = (bytes(_PDI_BYTES), b"\xff" * _PDI_BYTES)
_SEAL = Seal("nvidia.verify_topology")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyClaims(Sealed):
    """GPUs and switches that are linked with each other, by their own signed word.

    Attributes:
        gpus: The identifiers of the GPUs, in hex.
        switches: Those of the switches.
        roots_kind: Which kind of roots the devices lead to.
    """

    gpus: tuple[str, ...]
    switches: tuple[str, ...]
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`verify_topology` makes it."""
        self._check_seal(seal, _SEAL)


def needs_switches(devices: Sequence[DeviceClaims]) -> bool:
    """Whether these are the eight GPUs of a machine whose NVSwitches must be attested too."""
    gpus = [device for device in devices if device.device_type == "GPU"]
    protected = any(gpu.feature_flag == "PPCIE" or gpu.protected_pcie for gpu in gpus)
    return protected and len(gpus) >= _MAX_GPUS


def verify_topology(devices: Sequence[DeviceClaims]) -> TopologyClaims:
    """Verify that the GPUs are linked with exactly these switches, and these with those GPUs.

    Args:
        devices: All devices of one machine, as verified here.

    Raises:
        ConfigurationError: There are not both kinds of devices, or something else is given.
        BindingMismatch: A device names another one, leaves one out, or names itself wrongly.
        MalformedEvidence: What a device signed about its links has another form.
    """
    if not all(isinstance(device, DeviceClaims) for device in devices):
        raise ConfigurationError("devices are nvidia.DeviceClaims", id="usage.evidence")
    gpus = [device for device in devices if device.device_type == "GPU"]
    switches = [device for device in devices if device.device_type == "NVSwitch"]
    if not gpus or not switches:
        raise ConfigurationError("GPUs and switches are needed", id="usage.evidence")
    if len({device.roots_kind for device in devices}) != 1:
        raise ConfigurationError("they were verified under different roots", id="usage.roots")
    ours = [device.pdi for device in devices]
    if len(set(ours)) != len(ours) or set(ours) & set(_UNUSED):
        raise BindingMismatch(
            "two devices have one identifier, or one has none", id=ID, got=_listed(ours)
        )
    for switch in switches:
        own = _field(switch, PDI)
        if own != switch.pdi:
            raise BindingMismatch(
                f"{switch.name}: the switch names itself other than its certificate does",
                id=ID,
                got=own.hex(),
                want=switch.pdi.hex(),
            )
        linked = _identifiers(switch, GPU_PDIS, _MAX_GPUS, reverse=False)
        _require_equal(switch, linked, [gpu.pdi for gpu in gpus], "GPUs")
    for gpu in gpus:
        # A GPU writes each identifier the other way round, once for each link.
        linked = _identifiers(gpu, PDI, None, reverse=True)
        _require_equal(gpu, linked, [switch.pdi for switch in switches], "switches")
    return TopologyClaims(
        gpus=tuple(gpu.pdi.hex() for gpu in gpus),
        switches=tuple(switch.pdi.hex() for switch in switches),
        roots_kind=devices[0].roots_kind,
        seal=_SEAL,
    )


def _field(device: DeviceClaims, kind: int) -> bytes:
    for item in device.opaque:
        if item.type == kind:
            return item.value
    raise BindingMismatch(
        f"{device.name}: it does not say with which devices it is linked",
        id=ID,
        got="nothing",
        want=f"opaque item {kind}",
    )


def _identifiers(
    device: DeviceClaims, kind: int, count: int | None, *, reverse: bool
) -> set[bytes]:
    """The identifiers in an item: ``count`` of them, or as many as it holds."""
    value = _field(device, kind)
    number = len(value) // _PDI_BYTES if count is None else count
    if count is None and len(value) % _PDI_BYTES:
        raise MalformedEvidence(
            f"{device.name}: its links are no list of identifiers",
            id=ID,
            field=f"{device.name}.opaque[{kind}]",
            have=len(value),
            need=f"a multiple of {_PDI_BYTES}",
        )
    reader = Reader(value, name=f"{device.name}.opaque[{kind}]", id=ID)
    found = {reader.take(_PDI_BYTES, f"pdi[{index}]") for index in range(number)}
    return {pdi[::-1] if reverse else pdi for pdi in found if pdi not in _UNUSED}


def _require_equal(
    device: DeviceClaims, linked: set[bytes], ours: Sequence[bytes], what: str
) -> None:
    if linked != set(ours):
        raise BindingMismatch(
            f"{device.name}: it is linked with other {what} than those in the evidence",
            id=ID,
            got=_listed(linked),
            want=_listed(ours),
        )


def _listed(identifiers: Sequence[bytes] | set[bytes]) -> str:
    return ", ".join(sorted(one.hex() for one in identifiers)) or "none"

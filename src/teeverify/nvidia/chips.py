"""The chips that NVIDIA attests: a new architecture is a row of this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.errors import ConfigurationError

__all__ = [
    "CHIPS",
    "COMPOSITE_DEVICE_ID",
    "DICE_TCB_INFO",
    "Architecture",
    "Chip",
    "DeviceType",
    "chip_named",
]

DeviceType: TypeAlias = Literal["GPU", "NVSwitch"]
Architecture: TypeAlias = Literal["Hopper", "Blackwell", "LS10"]

# TCG DICE Attestation Architecture 1.1 section 6.1: the two ways to state a firmware identity.
COMPOSITE_DEVICE_ID = "2.23.133.5.4.1"
DICE_TCB_INFO = "2.23.133.5.4.1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip as its certificates name it.

    Attributes:
        product: Its name in the leaf's SAN, for example ``GH100``.
        device_type: Whether it is a GPU or an NVSwitch.
        architecture: NVIDIA's name of the architecture.
        engine: The processor that attests, as the certificates call it.
        provisioner: Pattern of the provisioner's common name.
        identity: Common name of the CA below the root.
        fwid_extension: Dotted OID of the extension that holds the firmware identity.
        rim_product: Pattern of the product that its reference manifests (RIMs) name.
        driver_rim: Begin of the id of its driver's manifest; ``{chip}`` is the name in the report.
    """

    product: str
    device_type: DeviceType
    architecture: Architecture
    engine: str
    provisioner: str
    identity: str
    fwid_extension: str
    rim_product: str
    driver_rim: str | None


CHIPS = (
    Chip(
        product="GH100",
        device_type="GPU",
        architecture="Hopper",
        engine="GSP",
        provisioner=r"NVIDIA GH100 Provisioner ICA [0-9]{1,5}",
        identity="NVIDIA GH100 Identity",
        fwid_extension=COMPOSITE_DEVICE_ID,
        rim_product="GH100",
        driver_rim="NV_GPU_DRIVER_GH100",
    ),
    Chip(
        product="GB100",
        device_type="GPU",
        architecture="Blackwell",
        engine="GSP",
        provisioner=r"NVIDIA GB100 Provisioner ICA [0-9]{1,5}",
        identity="NVIDIA GB100 Identity",
        fwid_extension=DICE_TCB_INFO,
        rim_product=r"GB1[0-9]{2}",
        driver_rim="NV_GPU_CC_DRIVER_{chip}",
    ),
    Chip(
        product="GB20X",
        device_type="GPU",
        architecture="Blackwell",
        engine="GSP",
        provisioner=r"NVIDIA GB20[0-9X] Provisioner ICA [0-9]{1,5}",
        identity="NVIDIA GB20X Identity",
        fwid_extension=DICE_TCB_INFO,
        rim_product=r"GB20[0-9X]",
        driver_rim="NV_GPU_CC_DRIVER_{chip}",
    ),
    # A switch leads to the identity CA of Hopper: only its own names tell it from a GPU.
    Chip(
        product="LS_10",
        device_type="NVSwitch",
        architecture="LS10",
        engine="FSP",
        provisioner=r"NVIDIA LS_10 Provisioner ICA [0-9]{1,5}",
        identity="NVIDIA GH100 Identity",
        fwid_extension=COMPOSITE_DEVICE_ID,
        rim_product="LS10",
        driver_rim=None,
    ),
)


def chip_named(product: str) -> Chip:
    """The row of the table for a chip that a verified chain named.

    Raises:
        ConfigurationError: There is none.
    """
    for chip in CHIPS:
        if chip.product == product:
            return chip
    raise ConfigurationError("no such chip", id="usage.evidence", got=ascii(product)[:40])

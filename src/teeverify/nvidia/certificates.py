"""The certificate chain of a GPU or NVSwitch, and what it says about the device.

NVIDIA signs which chip it is; the device signs its attestation key and the firmware identity. All
of it is P-384 and leads to the NVIDIA Device Identity CA.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.crypto.certificates import (
    Certificate,
    parse_certificate,
    verify_dates,
    verify_path,
)
from teeverify.crypto.der import CONTEXT_0, OCTET_STRING, OID, SEQUENCE, DerReader
from teeverify.crypto.pem import pem_blocks
from teeverify.errors import BindingMismatch, ChainInvalid, ConfigurationError
from teeverify.nvidia.known import Known
from teeverify.nvidia.spdm import FWID_BYTES
from teeverify.roots import TrustAnchor

__all__ = [
    "Architecture",
    "Chip",
    "DeviceChain",
    "DeviceType",
    "chip_named",
    "signed_product",
    "stated_fwid",
    "verify_chain",
]

DeviceType: TypeAlias = Literal["GPU", "NVSwitch"]
Architecture: TypeAlias = Literal["Hopper", "Blackwell", "LS10"]

CHAIN = "gpu.chain"
DEVICE_TYPE = "gpu.device-type"
FWID = "gpu.fwid"
_ROLES = ("attestation key", "device CA", "provisioner", "architecture identity")
_LENGTH = len(_ROLES) + 1
_OWN = 2  # certificates that belong to one device alone
_SAN = "2.5.29.17"
_UTF8_STRING = 0x0C
_FWIDS = 0xA6
_COMPOSITE_DEVICE_ID = "2.23.133.5.4.1"
_DICE_TCB_INFO = "2.23.133.5.4.1.1"
_DEVICE_INFO_OID = bytes.fromhex("2b06010401831c821201")
_SHA384_OID = bytes.fromhex("608648016503040202")
_DEVICE_INFO = re.compile(r"NVIDIA:([A-Z0-9_]{1,16}):[0-9A-F]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip as its certificates name it: a new architecture is a row of this table.

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


_CHIPS = (
    Chip(
        product="GH100",
        device_type="GPU",
        architecture="Hopper",
        engine="GSP",
        provisioner=r"NVIDIA GH100 Provisioner ICA [0-9]{1,5}",
        identity="NVIDIA GH100 Identity",
        fwid_extension=_COMPOSITE_DEVICE_ID,
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
        fwid_extension=_DICE_TCB_INFO,
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
        fwid_extension=_DICE_TCB_INFO,
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
        fwid_extension=_COMPOSITE_DEVICE_ID,
        rim_product="LS10",
        driver_rim=None,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChain:
    """A chain that leads to the trust anchor.

    Attributes:
        chip: The row of the table that all its names belong to.
        leaf: The certificate of the attestation key.
        issuers: Those above it: of this one device, provisioner, architecture identity, root.
        anchor: The anchor at its end.
        not_after: When the first of its certificates expires.
    """

    chip: Chip
    leaf: Certificate
    issuers: tuple[Certificate, ...]
    anchor: TrustAnchor
    not_after: datetime

    @property
    def device_ca(self) -> Certificate:
        """The certificate of this one device, from NVIDIA."""
        return self.issuers[0]


def chip_named(product: str) -> Chip:
    """The row of the table for a chip that a verified chain named.

    Raises:
        ConfigurationError: There is none.
    """
    for chip in _CHIPS:
        if chip.product == product:
            return chip
    raise ConfigurationError("no such chip", id="usage.evidence", got=ascii(product)[:40])


def verify_chain(
    pem: bytes,
    anchors: Sequence[TrustAnchor],
    known: Known,
    *,
    at: datetime,
    name: str,
) -> DeviceChain:
    """Verify the five certificates of a device, or know that they were.

    Args:
        pem: The bundle: attestation key, device CA, provisioner, architecture identity, root.
        anchors: NVIDIA's device roots.
        known: What was verified before; this chain is added.
        at: The time at which all must be valid.
        name: How errors call the device, for example ``gpu[3]``.

    Raises:
        MalformedEvidence: Not five certificates that can be read.
        ChainInvalid: A certificate in a role that is not its own, a key that is not P-384, or
            anything that RFC 5280 section 6.1 refuses.
        SignatureInvalid: A certificate is not signed by the one above it.
        EndorsementUnavailable: A certificate is outside its dates.
    """
    trusted = tuple(anchors)
    what = f"{name}: certificate chain"
    chain = known.recall(
        ("device", pem, trusted), lambda: _verify_new(pem, trusted, known, at, name)
    )
    for certificate in (chain.leaf, *chain.issuers):
        verify_dates(certificate, at=at, id=CHAIN, what=what)
    return chain


def _verify_new(
    pem: bytes, anchors: tuple[TrustAnchor, ...], known: Known, at: datetime, name: str
) -> DeviceChain:
    what = f"{name}: certificate chain"
    chain = _parse_chain(pem, known, what)
    if len(chain) != _LENGTH:
        raise ChainInvalid(
            f"{what}: the number of certificates is wrong",
            id=CHAIN,
            got=str(len(chain)),
            want=f"{_LENGTH}: {', '.join(_ROLES)}, root",
        )
    chip = _chip(chain, name)
    for below, certificate in enumerate(chain[:_OWN], start=-1):
        _require_role(certificate, below)
    leaf, device_ca, provisioner, _, root = chain
    if leaf.is_ca or leaf.key_usage != {"digital_signature"}:
        raise ChainInvalid(
            f"{name}: the attestation key may do more, or less, than sign",
            id=CHAIN,
            got=f"CA {leaf.is_ca}, {', '.join(sorted(leaf.key_usage)) or 'no key usage'}",
            want="CA False, digital_signature",
        )
    anchor = _verify_issuers(chain[_OWN:], anchors, known, at, what)
    if (root.subject, root.spki) != (anchor.subject, anchor.spki):
        raise ChainInvalid(f"{what}: the last certificate is not the root", id=CHAIN)
    # From here on the verified provisioner is what the device's own two certificates lead to.
    above = TrustAnchor(
        name=provisioner.common_name, subject=provisioner.subject, spki=provisioner.spki
    )
    verify_path((leaf, device_ca), (above,), at=at, id=CHAIN, what=what)
    return DeviceChain(
        chip=chip,
        leaf=leaf,
        issuers=chain[1:],
        anchor=anchor,
        not_after=min(certificate.not_after for certificate in chain),
    )


def _parse_chain(pem: bytes, known: Known, what: str) -> tuple[Certificate, ...]:
    """Read the bundle; the CAs that devices share are read once."""
    blocks = pem_blocks(pem, "CERTIFICATE", id=CHAIN, what=what, max_blocks=_LENGTH + 3)
    own = tuple(
        parse_certificate(block, id=CHAIN, what=f"{what}[{index}]")
        for index, block in enumerate(blocks[:_OWN])
    )
    shared = tuple(
        known.recall(
            ("certificate", block),
            partial(parse_certificate, block, id=CHAIN, what=f"certificate chain[{index}]"),
        )
        for index, block in enumerate(blocks[_OWN:], start=_OWN)
    )
    return own + shared


def _verify_issuers(
    issuers: tuple[Certificate, ...],
    anchors: tuple[TrustAnchor, ...],
    known: Known,
    at: datetime,
    what: str,
) -> TrustAnchor:
    """Provisioner, architecture identity and root: all devices of a machine share them."""

    def verify() -> TrustAnchor:
        for below, issuer in enumerate(issuers, start=1):
            _require_role(issuer, below)
        return verify_path(issuers, anchors, at=at, id=CHAIN, what=what)

    anchor = known.recall(("issuers", tuple(issuer.der for issuer in issuers), anchors), verify)
    for issuer in issuers:
        verify_dates(issuer, at=at, id=CHAIN, what=what)
    return anchor


def _require_role(certificate: Certificate, below: int) -> None:
    """Demand a P-384 key, and of an issuer that it may issue what is ``below`` it."""
    key = certificate.public_key
    if not (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"):
        raise ChainInvalid(f"{certificate.what}: the key is not on P-384", id=CHAIN)
    if below < 0:
        return
    # The path is verified in two parts, so what holds across them is looked at here.
    if not certificate.is_ca or "key_cert_sign" not in certificate.key_usage:
        raise ChainInvalid(f"{certificate.what}: it may not issue certificates", id=CHAIN)
    if certificate.path_length is not None and certificate.path_length < below:
        raise ChainInvalid(f"{certificate.what}: it may not issue so many levels", id=CHAIN)


def _chip(chain: Sequence[Certificate], name: str) -> Chip:
    """Find the row of the table in which each certificate has its role."""
    names = [certificate.common_name for certificate in chain]
    for chip in _CHIPS:
        leaf = re.fullmatch(rf"{chip.product} ([A-Z][0-9]{{2}}) {chip.engine} FMC LF", names[0])
        if leaf is None:
            continue
        wanted = (
            f"{chip.product} {leaf[1]} {chip.engine} BROM",
            chip.provisioner,
            chip.identity,
        )
        for role, found, want in zip(_ROLES[1:], names[1:], wanted, strict=False):
            if not re.fullmatch(want, found):
                raise ChainInvalid(
                    f"{name}: a certificate that is not the {role} of a {chip.product}",
                    id=CHAIN,
                    got=ascii(found[:80]),
                    want=want,
                )
        return chip
    known = ", ".join(chip.product for chip in _CHIPS)
    raise ChainInvalid(
        f"{name}: the attestation key is not one of a known NVIDIA chip",
        id=CHAIN,
        got=ascii(names[0][:80]),
        want=f"the key of one of {known}",
        hint="A newer chip needs a newer release.",
    )


def signed_product(leaf: Certificate, *, name: str) -> str:
    """The chip that the leaf's subject alternative name states (DSP0274 1.1 section 10.6.1).

    Raises:
        MalformedEvidence: The extension cannot be read.
        ChainInvalid: There is not exactly one such name, or it is no NVIDIA device.
    """
    raw = leaf.extension(_SAN)
    if raw is None:
        raise ChainInvalid(f"{name}: the attestation key names no device", id=DEVICE_TYPE)
    outer = DerReader(raw, name=f"{name}.san", id=DEVICE_TYPE)
    names = outer.nested(SEQUENCE, "names")
    outer.finish()
    other = names.nested(CONTEXT_0, "other_name")
    names.finish()
    kind = other.value(OID, "type")
    value = other.nested(CONTEXT_0, "value")
    other.finish()
    text = value.value(_UTF8_STRING, "text").decode("utf-8", "replace")
    value.finish()
    found = _DEVICE_INFO.fullmatch(text)
    if kind != _DEVICE_INFO_OID or found is None:
        raise ChainInvalid(
            f"{name}: the attestation key names something that is no NVIDIA device",
            id=DEVICE_TYPE,
            got=ascii(text[:80]),
            want="NVIDIA:<chip>:<16 hex digits>",
        )
    return found[1]


def stated_fwid(chain: DeviceChain, *, name: str) -> bytes:
    """The identity of the firmware that made the attestation key, from the leaf.

    Hopper and LS10 state it as a TCG composite device id, Blackwell as DICE TCB info (TCG DICE
    Attestation Architecture 1.1 section 6.1), of which the first entry is the firmware's.

    Raises:
        ChainInvalid: The extension is missing.
        MalformedEvidence: It cannot be read.
        BindingMismatch: It belongs to another device CA.
    """
    raw = chain.leaf.extension(chain.chip.fwid_extension)
    if raw is None:
        raise ChainInvalid(
            f"{name}: the attestation key states no firmware identity",
            id=FWID,
            want=f"extension {chain.chip.fwid_extension}",
        )
    outer = DerReader(raw, name=f"{name}.fwid", id=FWID)
    body = outer.nested(SEQUENCE, "extension")
    outer.finish()
    if chain.chip.fwid_extension == _DICE_TCB_INFO:
        return _tcb_info(body)
    if body.integer("version") != 1:
        raise body.error("version is not known", "version")
    if not hmac.compare_digest(body.encoded(SEQUENCE, "device_id"), chain.device_ca.spki):
        raise BindingMismatch(
            f"{name}: the firmware identity belongs to another device CA", id=FWID
        )
    fwid = _digest(body)
    body.finish()
    return fwid


def _tcb_info(body: DerReader) -> bytes:
    """The first FWID of a DiceTcbInfo; its members come in ascending order of their tags."""
    last, found = 0, None
    while (tag := body.next_tag()) is not None:
        # Bit 6 says only that a member is constructed (X.690 section 8.1.2.5).
        number = tag & ~0x20
        if number <= last:
            raise body.error("members out of order", "member")
        last = number
        if tag != _FWIDS:
            body.any("member")
            continue
        fwids = body.nested(_FWIDS, "fwids")
        found = _digest(fwids)
        while fwids.remaining:
            _digest(fwids)
    if found is None:
        raise body.error("no firmware identity", "fwids")
    return found


def _digest(reader: DerReader) -> bytes:
    """Take one FWID: an algorithm, which is SHA-384, and the digest."""
    entry = reader.nested(SEQUENCE, "fwid")
    algorithm = entry.value(OID, "algorithm")
    digest = entry.value(OCTET_STRING, "digest")
    entry.finish()
    if algorithm != _SHA384_OID or len(digest) != FWID_BYTES:
        raise reader.error("not a SHA-384 digest", "fwid", got=algorithm.hex())
    return digest

"""The certificate chain of a GPU or NVSwitch: who NVIDIA says that it is.

NVIDIA signs which chip it is; the device signs its attestation key and the firmware identity. All
of it is P-384 and leads to the NVIDIA Device Identity CA.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.crypto.certificates import Certificate, parse_certificate, verify_path
from teeverify.crypto.pem import pem_blocks
from teeverify.endorsements.remembered import Dated, Remembering
from teeverify.errors import ChainInvalid
from teeverify.nvidia.chips import CHIPS, Chip
from teeverify.roots import TrustAnchor

__all__ = ["DeviceChain", "dated", "verify_chain"]

T = TypeVar("T")
CHAIN = "gpu.chain"
_ROLES = ("attestation key", "device CA", "provisioner", "architecture identity")
_LENGTH = len(_ROLES) + 1
_OWN = 2  # certificates that belong to one device alone


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


def dated(value: T, certificates: Sequence[Certificate]) -> Dated[T]:
    """What was proved with certificates, for as long as all of them are valid."""
    return Dated(
        value,
        not_before=max(certificate.not_before for certificate in certificates),
        not_after=min(certificate.not_after for certificate in certificates),
    )


def verify_chain(
    pem: bytes,
    anchors: Sequence[TrustAnchor],
    memory: Remembering,
    *,
    at: datetime,
    name: str,
) -> DeviceChain:
    """Verify the five certificates of a device, or know that they were.

    Args:
        pem: The bundle: attestation key, device CA, provisioner, architecture identity, root.
        anchors: NVIDIA's device roots.
        memory: What was verified before; this chain is added.
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

    def verify() -> Dated[DeviceChain]:
        chain = _verify_new(pem, trusted, memory, at, name)
        return dated(chain, (chain.leaf, *chain.issuers))

    return memory.remember(("nvidia.device", pem, trusted), at, verify).value


def _verify_new(
    pem: bytes, anchors: tuple[TrustAnchor, ...], memory: Remembering, at: datetime, name: str
) -> DeviceChain:
    what = f"{name}: certificate chain"
    chain = _parse_chain(pem, memory, at, what)
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
    anchor = _verify_issuers(chain[_OWN:], anchors, memory, at, what)
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


def _parse_chain(
    pem: bytes, memory: Remembering, at: datetime, what: str
) -> tuple[Certificate, ...]:
    """Read the bundle; the CAs that devices share are read once."""
    blocks = pem_blocks(pem, "CERTIFICATE", id=CHAIN, what=what, max_blocks=_LENGTH + 3)
    own = tuple(
        parse_certificate(block, id=CHAIN, what=f"{what}[{index}]")
        for index, block in enumerate(blocks[:_OWN])
    )
    shared = tuple(
        memory.remember(
            ("nvidia.certificate", block), at, partial(_parse_shared, block, index)
        ).value
        for index, block in enumerate(blocks[_OWN:], start=_OWN)
    )
    return own + shared


def _parse_shared(block: bytes, index: int) -> Dated[Certificate]:
    return Dated.always(parse_certificate(block, id=CHAIN, what=f"certificate chain[{index}]"))


def _verify_issuers(
    issuers: tuple[Certificate, ...],
    anchors: tuple[TrustAnchor, ...],
    memory: Remembering,
    at: datetime,
    what: str,
) -> TrustAnchor:
    """Provisioner, architecture identity and root: all devices of a machine share them."""

    def verify() -> Dated[TrustAnchor]:
        for below, issuer in enumerate(issuers, start=1):
            _require_role(issuer, below)
        return dated(verify_path(issuers, anchors, at=at, id=CHAIN, what=what), issuers)

    key = ("nvidia.issuers", tuple(issuer.der for issuer in issuers), anchors)
    return memory.remember(key, at, verify).value


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
    if (
        certificate.extensions.path_length is not None
        and certificate.extensions.path_length < below
    ):
        raise ChainInvalid(f"{certificate.what}: it may not issue so many levels", id=CHAIN)


def _chip(chain: Sequence[Certificate], name: str) -> Chip:
    """Find the row of the table in which each certificate has its role."""
    names = [certificate.common_name for certificate in chain]
    for chip in CHIPS:
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
    known = ", ".join(chip.product for chip in CHIPS)
    raise ChainInvalid(
        f"{name}: the attestation key is not one of a known NVIDIA chip",
        id=CHAIN,
        got=ascii(names[0][:80]),
        want=f"the key of one of {known}",
        hint="A newer chip needs a newer release.",
    )

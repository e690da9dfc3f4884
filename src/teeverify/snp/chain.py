"""From AMD's root key to the key of a chip or a cloud, and AMD's list of what it revoked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from teeverify.clock import UTC, parse_time, show_time
from teeverify.crypto.certificates import Certificate, foreign_root_hint, verify_path
from teeverify.crypto.crl import Crl, verify_crl_of_anchor
from teeverify.crypto.names import shown_name
from teeverify.crypto.signed import PSS_ALGORITHMS, IssuerKey, load_issuer_key, verify_signed
from teeverify.endorsements.remembered import Dated
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    TeeVerifyError,
)
from teeverify.roots import Roots, TrustAnchor
from teeverify.roots.amd import AMD_INTERMEDIATES
from teeverify.snp.certificates import Leaf, authority_names, common_name
from teeverify.snp.checks import CRL
from teeverify.snp.endorsements import Endorsements
from teeverify.snp.product import Product
from teeverify.snp.report import Signer

__all__ = ["Authority", "verify_authority", "verify_crl", "verify_leaf"]

CA_CHAIN = "snp.ca-chain"
LEAF = "snp.leaf"
_RSA_BITS = 4096
_EVER = datetime(1, 1, 1, tzinfo=UTC)
# The first ASK of Genoa, revoked by AMD on 2022-10-31: known also where its list is not at hand.
_REVOKED = frozenset({("SEV-Genoa", 0x020001)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A verified intermediate CA (ASK or ASVK), and the anchor that it leads to.

    Attributes:
        anchor: AMD's root of the product.
        subject: DER of its name.
        spki: DER of its key.
        serial: Its serial number.
        not_before: First moment of its certificate, and of the root's where that was sent.
        not_after: Last moment of the same.
    """

    anchor: TrustAnchor
    subject: bytes
    spki: bytes
    serial: int
    not_before: datetime
    not_after: datetime

    @property
    def key(self) -> IssuerKey:
        """Its key."""
        return load_issuer_key(self.spki, id=CA_CHAIN, what="AMD's intermediate CA")


def verify_authority(
    product: Product, signer: Signer, endorsements: Endorsements, roots: Roots, at: datetime
) -> tuple[Authority, ...]:
    """Make the check snp.ca-chain.

    The intermediate that came with the evidence is used if it verifies under the root; where none
    came, the one that is written down, which AMD's root certified.

    Returns:
        One, or several where several of one name were supplied and verify.

    Raises:
        TeeVerifyError: See :func:`teeverify.snp.verify_report`.
    """
    key = ("authorities", product, signer, roots)
    return endorsements.remember(
        key, at, lambda: _verify_authorities(product, signer, endorsements, roots, at)
    ).value


def _verify_authorities(
    product: Product, signer: Signer, endorsements: Endorsements, roots: Roots, at: datetime
) -> Dated[tuple[Authority, ...]]:
    names = authority_names(product, signer)
    anchor = _anchor(names.root, roots)
    supplied = endorsements.found.authorities
    named = [one for one in supplied if one.common_name == names.intermediate]
    _require_product(supplied, product)
    if named:
        found = _verified(named, supplied, anchor, at)
    else:
        found = [_written_down(names.intermediate, anchor, roots, at)]
    return Dated(
        tuple(found), max(one.not_before for one in found), min(one.not_after for one in found)
    )


def _anchor(name: str, roots: Roots) -> TrustAnchor:
    """The root of one product; a root of another must not certify it."""
    # Looked for as bytes before it is read, so that only one of several names has to be.
    likely = [one for one in roots.amd if name.encode() in one.subject]
    found = [one for one in likely if common_name(one.subject, id=CA_CHAIN) == name]
    if not found:
        raise ChainInvalid(
            f"there is no trust anchor {name} among the roots in force",
            id=CA_CHAIN,
            got=", ".join(one.name for one in roots.amd)[:160] or "none",
            want=name,
            hint=foreign_root_hint(b""),
        )
    return found[0]


def _require_product(supplied: Sequence[Certificate], product: Product) -> None:
    """A chain that was supplied, and is of other products only, is not this report's."""
    wanted = (f"SEV-{product}", f"SEV-VLEK-{product}", f"ARK-{product}")
    if supplied and not any(one.common_name in wanted for one in supplied):
        raise ChainInvalid(
            f"the CA certificates that were supplied are not those of {product}",
            id=CA_CHAIN,
            got=", ".join(sorted({one.common_name for one in supplied}))[:160],
            want=f"{wanted[0]} or {wanted[1]}, and {wanted[2]}",
        )


def _verified(
    named: Iterable[Certificate],
    supplied: Sequence[Certificate],
    anchor: TrustAnchor,
    at: datetime,
) -> list[Authority]:
    """Those that verify; the first one's error where none does."""
    results = [_tried(certificate, supplied, anchor, at) for certificate in named]
    found = [result for result in results if isinstance(result, Authority)]
    if not found:
        raise next(result for result in results if isinstance(result, TeeVerifyError))
    return found


def _tried(
    certificate: Certificate,
    supplied: Sequence[Certificate],
    anchor: TrustAnchor,
    at: datetime,
) -> Authority | TeeVerifyError:
    try:
        return _verify_intermediate(certificate, supplied, anchor, at)
    except TeeVerifyError as error:
        return error


def _verify_intermediate(
    certificate: Certificate,
    supplied: Sequence[Certificate],
    anchor: TrustAnchor,
    at: datetime,
) -> Authority:
    what = "AMD's chain"
    roots = [one for one in supplied if one.subject == certificate.issuer]
    # A root that came along is compared with the anchor; the right one, if there are several.
    roots.sort(key=lambda one: one.spki != anchor.spki)
    path = [certificate, *roots[:1]]
    if roots and roots[0].spki != anchor.spki:
        raise ChainInvalid(
            f"{what}: the root that came along is not {anchor.name} but has its name only",
            id=CA_CHAIN,
            got=f"key sha256:{hashlib.sha256(roots[0].spki).hexdigest()}",
            want=f"key sha256:{anchor.fingerprint}",
            hint=foreign_root_hint(roots[0].subject),
        )
    for one in path:
        key = one.public_key
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _RSA_BITS:
            raise ChainInvalid(
                f"{what}: the key of {one.common_name} is not RSA of {_RSA_BITS} bits",
                id=CA_CHAIN,
                got=f"sha256:{hashlib.sha256(one.spki).hexdigest()}",
            )
        if one.signed.algorithm not in PSS_ALGORITHMS:
            raise ChainInvalid(
                f"{what}: {one.common_name} is signed with another algorithm than AMD's",
                id=CA_CHAIN,
                got=one.signed.algorithm.hex()[:80],
                want="RSASSA-PSS with SHA-384",
            )
    verify_path(path, (anchor,), at=at, id=CA_CHAIN, what=what)
    if not certificate.is_ca or certificate.key_usage != {"key_cert_sign"}:
        raise ChainInvalid(
            f"{what}: {certificate.common_name} is not a CA that may only sign certificates",
            id=CA_CHAIN,
            got=f"ca={certificate.is_ca}, usage={sorted(certificate.key_usage)}",
        )
    return _current(
        Authority(
            anchor=anchor,
            subject=certificate.subject,
            spki=certificate.spki,
            serial=certificate.serial,
            not_before=max(one.not_before for one in path),
            not_after=min(one.not_after for one in path),
        ),
        certificate.common_name,
        at,
    )


def _written_down(name: str, anchor: TrustAnchor, roots: Roots, at: datetime) -> Authority:
    """The intermediate that ships with this program; only below the embedded roots."""
    known = [one for one in AMD_INTERMEDIATES if one.name == name]
    if roots.kind != "embedded" or not known:
        raise EndorsementUnavailable(
            f"the certificate of {name} is not at hand",
            id=CA_CHAIN,
            want=f"{name}, certified by {anchor.name}",
            hint="Pass --endorsements PATH with AMD's chain of CAs.",
        )
    parts = known[0].anchor()
    return _current(
        Authority(
            anchor=anchor,
            subject=parts["subject"],
            spki=parts["spki"],
            serial=known[0].serial,
            not_before=parse_time(known[0].not_before_time),
            not_after=parse_time(known[0].not_after_time),
        ),
        name,
        at,
    )


def _current(authority: Authority, name: str, at: datetime) -> Authority:
    """The CA, unless it is known to be revoked or is outside its dates."""
    if (name, authority.serial) in _REVOKED:
        raise EndorsementInvalid(
            f"AMD revoked this certificate of {name}", id=CA_CHAIN, got=f"{authority.serial:#x}"
        )
    _require_dates(
        authority.not_before, authority.not_after, at, CA_CHAIN, f"the certificate of {name}"
    )
    return authority


def _require_dates(start: datetime, end: datetime, at: datetime, id: str, name: str) -> None:
    if not start <= at <= end:
        raise EndorsementUnavailable(
            f"{name} {'has expired' if at > end else 'is not valid yet'} at {show_time(at)}",
            id=id,
            got=f"valid from {show_time(start)} to {show_time(end)}",
            want=f"valid at {show_time(at)}",
            hint="Fetch fresh endorsements, or verify at the time when the evidence was recorded.",
        )


def verify_crl(authority: Authority, endorsements: Endorsements, at: datetime) -> Crl:
    """Make the check snp.crl for one CA.

    Raises:
        EndorsementUnavailable: AMD's list is absent, or its next one was due by then.
        EndorsementInvalid: The CA is revoked.
        SignatureInvalid: The list was not signed by AMD's root.
    """
    what = f"the revocation list of {authority.anchor.name}"
    own = [crl for crl in endorsements.found.crls if crl.issuer == authority.anchor.subject]
    if not own:
        others = len(endorsements.found.crls)
        raise EndorsementUnavailable(
            f"{what} is not at hand",
            id=CRL,
            got=f"only those of other CAs ({others})" if others else "none",
            want="AMD's list of this product",
            hint="Pass --endorsements PATH with the list that AMD's key service gives.",
        )
    crl = max(own, key=lambda crl: (crl.next_update >= at, crl.this_update))
    # A list made after the time asked about answers for that time too: AMD takes no CA off again.
    moment = max(at, crl.this_update)

    def verify() -> Dated[None]:
        verify_crl_of_anchor(crl, authority.anchor, at=moment, id=CRL, what=what)
        return Dated(None, _EVER, crl.next_update)

    endorsements.remember(("crl", authority.anchor, crl.der), at, verify)
    if authority.serial in crl.revoked:
        raise EndorsementInvalid(
            "AMD revoked the CA above this report's key",
            id=CRL,
            got=f"serial {authority.serial:#x} in the list of {show_time(crl.this_update)}",
            want="a serial that is not listed",
        )
    return crl


def verify_leaf(
    leaf: Leaf, authorities: Sequence[Authority], endorsements: Endorsements, at: datetime
) -> Authority:
    """Make the check snp.leaf; give the CA that certified the key.

    Raises:
        ChainInvalid: It names another CA as its issuer.
        SignatureInvalid: No CA of that name signed it.
        EndorsementUnavailable: It is expired, or not yet valid.
    """
    key = ("leaf", leaf.der, *((one.anchor, one.spki) for one in authorities))
    return endorsements.remember(key, at, lambda: _verify_leaf(leaf, authorities, at)).value


def _verify_leaf(leaf: Leaf, authorities: Sequence[Authority], at: datetime) -> Dated[Authority]:
    what = f"the {leaf.signer} certificate"
    errors: list[TeeVerifyError] = []
    for authority in authorities:
        try:
            if leaf.issuer != authority.subject:
                raise ChainInvalid(
                    f"{what} was issued by another CA",
                    id=LEAF,
                    got=shown_name(leaf.issuer, id=LEAF),
                    want=shown_name(authority.subject, id=LEAF),
                )
            verify_signed(leaf.signed, authority.key, id=LEAF, what=what)
        except TeeVerifyError as error:
            errors.append(error)
            continue
        _require_dates(leaf.not_before, leaf.not_after, at, LEAF, what)
        return Dated(
            authority,
            max(leaf.not_before, authority.not_before),
            min(leaf.not_after, authority.not_after),
        )
    raise errors[0]

"""Fake reference manifests (RIMs): SWID tags with golden values, signed as NVIDIA signs them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from teeverify.clock import UTC
from teeverify.encoding.xml import XmlElement, canonical, parse_xml
from teeverify.simulator.authority import Authority, PrivateKey, sign_raw

__all__ = ["FakeRims", "RimForm", "rim_answer"]

DSIG = "http://www.w3.org/2000/09/xmldsig#"
_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_TCG = (
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-"
    "information-model/"
)
_HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_NOT_BEFORE = datetime(2024, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(2027, 1, 1, tzinfo=UTC)
_LINE = 64


def _unchanged(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RimForm:
    """What can be set in a manifest; every field alone.

    Attributes:
        product: The chip.
        version: Version of the driver or VBIOS.
        edition: ``GPU`` or ``SWITCH``.
        maker: NVIDIA's number.
        values: The golden values from index 0, each with its alternatives.
        active: Indices that a device must meet.
        resources: Attributes of single Resources to change, by index; ``None`` leaves one out.
        before: Changes the text before it is signed.
        after: Changes the text after it was signed.
        algorithms: Attributes ``Algorithm`` and ``URI`` of the signature to change, by element.
        signer: Sign with this key instead of the certified one.
        digest: Digest instead of the real one.
        leaf: Arguments of ``Authority.issue`` for the signing certificate.
        certificates: The certificates beside the signature, leaf first.
    """

    product: str = "GH100"
    version: str = "570.172.08"
    edition: str = "GPU"
    maker: str = "5703"
    values: Sequence[Sequence[bytes]] = ()
    active: Iterable[int] = ()
    resources: Mapping[int, Mapping[str, str | None]] = field(default_factory=dict)
    before: Callable[[str], str] = _unchanged
    after: Callable[[str], str] = _unchanged
    algorithms: Mapping[str, str] = field(default_factory=dict)
    signer: PrivateKey | None = None
    digest: bytes | None = None
    leaf: Mapping[str, Any] = field(default_factory=dict)
    certificates: Sequence[Authority] | None = None


class FakeRims:
    """NVIDIA's signers of manifests, under a random root.

    Args:
        at: When they are at work: a year before and after, as the real ones.
    """

    def __init__(self, *, at: datetime | None = None) -> None:
        year = timedelta(days=365)
        self._dates = (_NOT_BEFORE, _NOT_AFTER) if at is None else (at - year, at + year)
        self.root = Authority.root("Simulated NVIDIA CoRIM signing Root CA", curve="p384")
        self.product_ca = self.root.issue("NVIDIA Reference Value GH100 CA", ca=True)
        self.level3 = self.product_ca.issue(
            "NVIDIA Reference Value L3 GH100 002", ca=True, path_length=0
        )
        self.leaf = self._leaf({})

    @property
    def chain(self) -> tuple[Authority, ...]:
        """The path of the signing certificate, leaf first."""
        return (self.leaf, self.level3, self.product_ca, self.root)

    def _leaf(self, overrides: Mapping[str, Any]) -> Authority:
        form = {
            "common_name": "RIM L4 Signer",
            "not_before": self._dates[0].replace(microsecond=0),
            "not_after": self._dates[1].replace(microsecond=0),
            **overrides,
        }
        return self.level3.issue(**form)

    def build(self, form: RimForm) -> bytes:
        """Write a manifest and sign it."""
        leaf = self._leaf(form.leaf) if form.leaf else self.leaf
        chain = (leaf, *self.chain[1:]) if form.certificates is None else form.certificates
        body = form.before(_document(form))
        digest = form.digest or hashlib.sha384(_canonical(body)).digest()
        info = _signed_info(form.algorithms, digest)
        unsigned = _with_signature(body, info, b"", chain)
        signed = canonical(_find(parse_xml(unsigned.encode(), field="rim", id="usage.simulator")))
        value = sign_raw(form.signer or leaf.key, signed)
        return form.after(_with_signature(body, info, value, chain)).encode()


def rim_answer(name: str, xml: bytes) -> bytes:
    """The answer of NVIDIA's RIM service about one manifest."""
    return json.dumps(
        {
            "id": name,
            "rim": base64.b64encode(xml).decode(),
            "sha256": hashlib.sha256(xml).hexdigest(),
            "request_id": "simulated",
        }
    ).encode()


def _canonical(text: str) -> bytes:
    return canonical(parse_xml(text.encode(), field="rim", id="usage.simulator"))


def _find(root: XmlElement) -> XmlElement:
    return next(one for one in root.walk() if (one.uri, one.local) == (DSIG, "SignedInfo"))


def _document(form: RimForm) -> str:
    """The manifest without its signature."""
    active = frozenset(form.active)
    resources = "\n".join(
        _resource(index, alternatives, form.resources.get(index, {}), active=index in active)
        for index, alternatives in enumerate(form.values)
    )
    return (
        f'<SoftwareIdentity xmlns="{_SWID}" xmlns:ns0="{_SWID}" xmlns:ns2="{_HASH}" '
        f'corpus="false" name="{form.product}" patch="false" supplemental="false" '
        f'tagId="simulated" version="1.0" tagVersion="0">\n'
        f'    <ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"/>\n'
        f'    <ns0:Meta xmlns:ns1="{_TCG}" colloquialVersion="{form.version}" '
        f'edition="{form.edition}" product="{form.product}" revision="r1" PayloadType="direct" '
        f'ns1:BindingSpec="RIMIM" ns1:BindingSpecVersion="1.01" '
        f'ns1:FirmwareManufacturer="NVIDIA Corporation" '
        f'ns1:FirmwareManufacturerId="{form.maker}"/>\n'
        f'    <ns0:Payload xmlns:SHA384="{_HASH}">\n{resources}\n    </ns0:Payload>\n'
        "</SoftwareIdentity>\n"
    )


def _resource(
    index: int,
    alternatives: Sequence[bytes],
    changes: Mapping[str, str | None],
    *,
    active: bool,
) -> str:
    attributes: dict[str, str | None] = {
        "type": "Measurement",
        "index": str(index),
        "active": str(active),
        "alternatives": str(len(alternatives)),
        **{f"ns2:Hash{number}": value.hex() for number, value in enumerate(alternatives)},
        "name": f"Measurement_{index}",
        "size": "48",
        **changes,
    }
    text = " ".join(f'{name}="{value}"' for name, value in attributes.items() if value is not None)
    return f"        <ns0:Resource {text}/>"


def _signed_info(changes: Mapping[str, str], digest: bytes) -> str:
    names = {
        "CanonicalizationMethod": _C14N,
        "SignatureMethod": f"{_MORE}ecdsa-sha384",
        "Reference": "",
        "Transform0": f"{DSIG}enveloped-signature",
        "Transform1": _C14N,
        "DigestMethod": f"{_MORE}sha384",
        **changes,
    }
    return (
        "<ds:SignedInfo>"
        f'<ds:CanonicalizationMethod Algorithm="{names["CanonicalizationMethod"]}"/>'
        f'<ds:SignatureMethod Algorithm="{names["SignatureMethod"]}"/>'
        f'<ds:Reference URI="{names["Reference"]}"><ds:Transforms>'
        f'<ds:Transform Algorithm="{names["Transform0"]}"/>'
        f'<ds:Transform Algorithm="{names["Transform1"]}"/></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{names["DigestMethod"]}"/>'
        f"<ds:DigestValue>{base64.b64encode(digest).decode()}</ds:DigestValue>"
        "</ds:Reference></ds:SignedInfo>"
    )


def _with_signature(body: str, info: str, value: bytes, chain: Sequence[Authority]) -> str:
    """Put the signature where the real ones have it: last in the document element."""
    certificates = "".join(
        f"<ds:X509Certificate>{_lines(one.der)}</ds:X509Certificate>" for one in chain
    )
    signature = (
        f'<ds:Signature xmlns:ds="{DSIG}">{info}'
        f"<ds:SignatureValue>{base64.b64encode(value).decode()}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    return body.replace("</SoftwareIdentity>", f"{signature}</SoftwareIdentity>")


def _lines(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    return "\n".join(text[start : start + _LINE] for start in range(0, len(text), _LINE))

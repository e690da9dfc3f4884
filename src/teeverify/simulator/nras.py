"""A fake NVIDIA Remote Attestation Service: signing keys, JWKS and detached EAT answers."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.nvidia.evidence import parse_evidence
from teeverify.simulator.authority import Authority, PrivateKey, sign_raw

__all__ = ["ABSENT_CLAIM", "AnswerForm", "FakeNras", "base64url"]

ISSUER = "https://nras.attestation.nvidia.com"
ABSENT_CLAIM = object()  # a claim with this value is left out
_CERTIFIED = {
    "x-nvidia-cert-status": "valid",
    "x-nvidia-cert-ocsp-status": "good",
    "x-nvidia-cert-expiration-date": "9999-12-31T23:59:59Z",
    "x-nvidia-cert-revocation-reason": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What can be set in an answer; every field alone.

    Attributes:
        claims_version: ``2.0`` or ``3.0``.
        overall: Claims of the overall token to change; ``ABSENT_CLAIM`` leaves one out.
        submod: Claims of every device's token to change.
        submods: Claims of single devices' tokens to change, by name (``GPU-0``).
        error: Answer as NRAS does when it refuses: these ``x-nvidia-error-details``.
        names: Names of the submodules instead of ``GPU-0``...
        digests: Digest entries of the overall token to change, by name.
        digest_name: What SHA-256 is called.
        header: Members of every token's header to change.
        overall_header: Members of the overall token's header to change.
        tokens: Tokens sent for single devices instead of those that were digested.
        lifetime: How long the tokens are valid.
        signer: Sign the tokens with this key.
        signature: Signature of the overall token instead of the real one.
        jwk: Members of the published key to change.
        more_keys: Keys published beside it.
        leaf: Arguments of ``Authority.issue`` for the signing certificate.
        x5c: The certificates published with the key, as base64 DER.
        shape: The whole answer, made of the overall token and the devices' tokens.
    """

    claims_version: str = "2.0"
    overall: Mapping[str, Any] = field(default_factory=dict)
    submod: Mapping[str, Any] = field(default_factory=dict)
    submods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    names: Sequence[str] | None = None
    digests: Mapping[str, Any] = field(default_factory=dict)
    digest_name: str = "SHA-256"
    header: Mapping[str, Any] = field(default_factory=dict)
    overall_header: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    lifetime: timedelta = timedelta(hours=1)
    signer: PrivateKey | None = None
    signature: bytes | None = None
    jwk: Mapping[str, Any] = field(default_factory=dict)
    more_keys: Sequence[Mapping[str, Any]] = ()
    leaf: Mapping[str, Any] = field(default_factory=dict)
    x5c: Sequence[str] | None = None
    shape: Any = None


class FakeNras:
    """An attestation service whose signing certificates lead to a random intermediate."""

    def __init__(self) -> None:
        # As the real one: the leaves are P-384, the intermediate that signs them is RSA.
        self.intermediate = Authority.root(
            "Simulated NVIDIA Attestation Service GPU Intermediate", curve="rsa"
        )

    def answer(
        self,
        evidence_list: Sequence[Mapping[str, Any]],
        nonce: str,
        at: datetime,
        **overrides: Any,  # noqa: ANN401
    ) -> tuple[bytes, bytes]:
        """Answer about evidence, without checking it.

        Args:
            evidence_list: NVIDIA's JSON entries.
            nonce: Hex of the nonce that was posted with them.
            at: When the answer is made.
            **overrides: Fields of :class:`AnswerForm`.

        Returns:
            The answer and the JWKS, as bytes.
        """
        form = AnswerForm(**overrides)
        leaf = self._leaf(form, at)
        kid = f"nv-eat-kid-sim-{at:%Y%m%d%H%M%S}000-{secrets.token_hex(8)}"
        head = {"kid": kid, "alg": "ES384", **form.header}
        times = {
            "iss": ISSUER,
            "iat": int(at.timestamp()),
            "nbf": int(at.timestamp()),
            "exp": int((at + form.lifetime).timestamp()),
        }
        key = form.signer or leaf.key
        names, tokens, digests = self._submods(evidence_list, nonce, form, (head, times, key))
        overall = {
            "sub": "NVIDIA-PLATFORM-ATTESTATION",
            "x-nvidia-ver": form.claims_version,
            **times,
            "jti": secrets.token_hex(16),
            "x-nvidia-overall-att-result": form.error is None,
            "submods": digests,
            "eat_nonce": nonce,
        }
        token = _token(
            {**head, **form.overall_header}, {**overall, **form.overall}, key, form.signature
        )
        sent = {name: form.tokens.get(name, tokens[name]) for name in names}
        answer = [["JWT", token], sent] if form.shape is None else form.shape(token, sent)
        return json.dumps(answer).encode(), self._jwks(form, leaf, kid)

    def _submods(
        self,
        evidence_list: Sequence[Mapping[str, Any]],
        nonce: str,
        form: AnswerForm,
        signing: tuple[Mapping[str, Any], Mapping[str, Any], PrivateKey],
    ) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        """One token a device, and their digests."""
        head, times, key = signing
        tokens: dict[str, str] = {}
        digests: dict[str, Any] = {}
        for index, entry in enumerate(evidence_list):
            switch = entry.get("arch") == "LS10"
            name = f"SWITCH-{index}" if switch else f"GPU-{index}"
            name = form.names[index] if form.names else name
            claims = {**times, "jti": secrets.token_hex(16)}
            if form.error is None:
                claims |= _device_claims(entry, form.claims_version, switch=switch)
                claims |= {"eat_nonce": nonce, **form.submod, **form.submods.get(name, {})}
            else:
                claims["x-nvidia-error-details"] = dict(form.error)
            tokens[name] = _token(head, claims, key, None)
            digest = hashlib.sha256(tokens[name].encode()).hexdigest()
            digests[name] = ["DIGEST", [form.digest_name, digest]]
        return list(tokens), tokens, {**digests, **form.digests}

    def _leaf(self, form: AnswerForm, at: datetime) -> Authority:
        """A signing certificate that lives two days, as the real ones do."""
        defaults = {
            "common_name": "NVIDIA Attestation Service GPU GH100",
            "curve": "p384",
            "ca": None,
            "not_before": at.replace(microsecond=0) - timedelta(hours=12),
            "not_after": at.replace(microsecond=0) + timedelta(hours=36),
        }
        return self.intermediate.issue(**{**defaults, **form.leaf})

    def _jwks(self, form: AnswerForm, leaf: Authority, kid: str) -> bytes:
        x5c = form.x5c
        if x5c is None:
            x5c = [base64.b64encode(item.der).decode() for item in (leaf, self.intermediate)]
        point = _point(leaf.certificate)
        key = {
            "kty": "EC",
            "crv": "P-384",
            "kid": kid,
            "x": base64url(point[: len(point) // 2]),
            "y": base64url(point[len(point) // 2 :]),
            "x5c": x5c,
        }
        key = {k: v for k, v in {**key, **form.jwk}.items() if v is not ABSENT_CLAIM}
        return json.dumps({"keys": [*form.more_keys, key]}).encode()


def base64url(data: bytes) -> str:
    """Unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _token(
    header: Mapping[str, Any], claims: Mapping[str, Any], key: PrivateKey, signature: bytes | None
) -> str:
    """Sign one compact JWS."""
    parts = []
    for part in (header, claims):
        kept = {k: v for k, v in part.items() if v is not ABSENT_CLAIM}
        parts.append(base64url(json.dumps(kept, separators=(",", ":")).encode()))
    text = ".".join(parts)
    made = sign_raw(key, text.encode("ascii")) if signature is None else signature
    return f"{text}.{base64url(made)}"


def _point(certificate: x509.Certificate) -> bytes:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return bytes(96)
    numbers, size = public.public_numbers(), (public.key_size + 7) // 8
    return numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")


def _device_claims(entry: Mapping[str, Any], version: str, *, switch: bool) -> dict[str, Any]:
    """The claims of a device that passed."""
    device = parse_evidence([dict(entry)]).devices[0]
    leaf, brom = x509.load_pem_x509_certificates(device.certificate_chain)[:2]
    model = str(brom.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    prefix = "x-nvidia-switch" if switch else "x-nvidia-gpu"
    rims = ("bios-rim",) if switch else ("driver-rim", "vbios-rim")
    passed = ["arch-check"]
    passed += [f"attestation-report-{x}" for x in ("parsed", "nonce-match", "signature-verified")]
    certified = ["attestation-report-cert-chain", *(f"{rim}-cert-chain" for rim in rims)]
    steps = ["fetched", "schema-validated", "signature-verified", "measurements-available"]
    if version == "2.0":
        passed.append("attestation-report-cert-chain-validated")
        steps.append("cert-validated")
    else:
        passed.append("attestation-report-cert-chain-fwid-match")
        steps.append("version-match")
    passed += [f"{rim}-{step}" for rim in rims for step in steps]
    passed += [] if switch else ["vbios-index-no-conflict"]
    claims: dict[str, Any] = {f"{prefix}-{name}": True for name in passed}
    if version != "2.0":
        claims |= {f"{prefix}-{name}": dict(_CERTIFIED) for name in certified}
    fields = device.report.fields
    bios = "bios" if switch else "vbios"
    claims[f"{prefix}-{bios}-version"] = fields.vbios_version
    if not switch:
        claims[f"{prefix}-driver-version"] = fields.driver_version
    return claims | {
        "measres": "success",
        "secboot": True,
        "dbgstat": "disabled",
        "hwmodel": model.split(" ", 1)[0] if version == "2.0" else model,
        "ueid": str(leaf.serial_number),
        "oemid": None if switch else "5703",
        "x-nvidia-attestation-warning": None,
    }

"""A result as an EAT Attestation Result (draft-ietf-rats-ear-04, over RFC 9711), for other systems.

It is a statement of whoever holds the local key, and worth what that holder's word is worth: the
issuer is the key itself (RFC 9278), and a statement that is read back is a warning at best.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from teeverify.appraisal import AttestationResult, Outcome, Severity
from teeverify.appraisal.result import Tier
from teeverify.clock import from_unix
from teeverify.encoding.fields import JsonObject
from teeverify.errors import ConfigurationError, MalformedEvidence, SignatureInvalid

__all__ = ["Statement", "read_ear", "write_ear"]

PROFILE = "tag:ietf.org,2026:rats/ear#04"
_ID = "ear"
_SUBMOD = "teeverify"
_MAX_KEY_FILE = 64 * 1024
_MAX_TOKEN = 256 * 1024
# AR4SI's tiers (draft-ietf-rats-ar4si section 2.3.2), and which claims speak of what.
_AFFIRMING, _WARNING, _CONTRAINDICATED = 2, 32, 96
_VECTOR = {
    "instance-identity": ("key",),
    "hardware": ("cpu", "gpu"),
    "configuration": ("cpu_firmware", "gpu_firmware"),
    "executables": ("code",),
    "runtime-opaque": ("channel",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What somebody's statement says: his word, and no result of ours.

    Attributes:
        issuer: The key that made it.
        tier: What it counts for here: ``warning`` at best.
        stated: The tier that it states.
        summary: The first sentence that it carries.
        issued_at: When it was made, by the issuer's clock.
        policy: Hash of the policy that the issuer used.
    """

    issuer: str
    tier: Tier
    stated: str
    summary: str
    issued_at: datetime
    policy: str


def write_ear(result: AttestationResult, key: str | Path | bytes) -> str:
    """Write a result as a signed JWT.

    Args:
        result: The result. A simulated one is stated to be contraindicated.
        key: A private key on P-256 or P-384 in PEM, or the path of one; its holder is the issuer.

    Raises:
        ConfigurationError: No such key.
    """
    import jwt  # noqa: PLC0415 -- only where a statement is made

    private = _private(key)
    public = private.public_key()
    status: Tier = "contraindicated" if result.simulated else result.tier
    claims = {
        "eat_profile": PROFILE,
        "iss": _issuer(public),
        "iat": int(result.verified_at.timestamp()),
        "ear_verifier_id": {"developer": "teeverify", "build": result.schema},
        "ear_status": status,
        "submods": {
            _SUBMOD: {
                "ear_status": status,
                "ear_trustworthiness_vector": _vector(result),
                "ear_appraisal_policy_ids": [f"urn:sha256:{result.policy.hash}"],
                "ear_verifier_claims": result.to_dict(),
            }
        },
    }
    if result.expires_at is not None:
        claims["exp"] = int(result.expires_at.timestamp())
    return jwt.encode(claims, private, algorithm=_algorithm(public))


def read_ear(token: str | bytes, key: str | Path | bytes) -> Statement:
    """Read a statement that this key made. Nothing that it states was verified here.

    Args:
        token: The JWT.
        key: The issuer's public key in PEM, or the path of it: it is never taken from the token.

    Raises:
        ConfigurationError: No such key.
        SignatureInvalid: Another key made it.
        MalformedEvidence: It has another form.
    """
    import jwt  # noqa: PLC0415 -- only where a statement is read

    public = _public(key)
    if len(token) > _MAX_TOKEN:
        raise MalformedEvidence(
            "the statement is too large", id=_ID, field="ear", need=_MAX_TOKEN, have=len(token)
        )
    try:
        claims = jwt.decode(
            token,
            public,
            algorithms=[_algorithm(public)],
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_aud": False,
                "require": ["iss", "iat", "eat_profile", "submods"],
            },
        )
    except jwt.InvalidSignatureError:
        raise SignatureInvalid("another key made this statement", id=_ID) from None
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise MalformedEvidence(
            "this is no statement", id=_ID, field="ear", got=type(error).__name__
        ) from None
    return _statement(JsonObject(claims, path="ear", id=_ID), _issuer(public))


def _statement(claims: JsonObject, issuer: str) -> Statement:
    if claims.text("eat_profile") != PROFILE or claims.text("iss") != issuer:
        raise MalformedEvidence(
            "another profile or another issuer", id=_ID, field="ear", want=f"{PROFILE}, {issuer}"
        )
    part = claims.object("submods").object(_SUBMOD)
    stated = part.text("ear_status")
    tier: Tier = "contraindicated"
    if stated in ("affirming", "warning"):
        tier = "warning"  # somebody's word is never more
    elif stated == "none":
        tier = "none"
    said = part.object("ear_verifier_claims")
    return Statement(
        issuer=issuer,
        tier=tier,
        stated=stated[:40],
        summary=said.text("summary"),
        issued_at=from_unix(claims.integer("iat")),
        policy=said.object("policy").text("hash"),
    )


def _vector(result: AttestationResult) -> dict[str, int]:
    """The worst of the claims that speak of each aspect."""
    return {
        aspect: max(_level(result, name) for name in names) for aspect, names in _VECTOR.items()
    }


def _level(result: AttestationResult, name: str) -> int:
    claim = result.claims[name]
    findings = [f for f in result.findings if f.claim == name]
    if claim.outcome is Outcome.FAILED or any(f.exit_code for f in findings):
        return _CONTRAINDICATED
    if claim.outcome is Outcome.PROVEN and all(f.severity is Severity.INFORMS for f in findings):
        return _AFFIRMING
    return _WARNING


def _issuer(key: ec.EllipticCurvePublicKey) -> str:
    """The key's thumbprint (RFC 7638) as a name (RFC 9278)."""
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    jwk = {
        "crv": f"P-{key.curve.key_size}",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(size, "big")),
        "y": _base64url(numbers.y.to_bytes(size, "big")),
    }
    text = json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode("ascii")
    digest = _base64url(hashlib.sha256(text).digest())
    return f"urn:ietf:params:oauth:jwk-thumbprint:sha-256:{digest}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _algorithm(key: ec.EllipticCurvePublicKey) -> str:
    return "ES256" if isinstance(key.curve, ec.SECP256R1) else "ES384"


def _private(key: str | Path | bytes) -> ec.EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(_pem(key), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong_key("an unencrypted private key in PEM") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise _wrong_key("a key on P-256 or P-384")
    _require_curve(found.curve)
    return found


def _public(key: str | Path | bytes) -> ec.EllipticCurvePublicKey:
    try:
        found = load_pem_public_key(_pem(key))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong_key("a public key in PEM") from None
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise _wrong_key("a key on P-256 or P-384")
    _require_curve(found.curve)
    return found


def _require_curve(curve: ec.EllipticCurve) -> None:
    if not isinstance(curve, (ec.SECP256R1, ec.SECP384R1)):
        raise _wrong_key("a key on P-256 or P-384")


def _pem(key: str | Path | bytes) -> bytes:
    if isinstance(key, bytes):
        return key
    try:
        with Path(key).open("rb") as file:
            return file.read(_MAX_KEY_FILE)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        raise ConfigurationError(
            f"the key cannot be read: {reason}", id="usage.ear", got=ascii(str(key))[:200]
        ) from None


def _wrong_key(want: str) -> ConfigurationError:
    return ConfigurationError("the key cannot be used for statements", id="usage.ear", want=want)

"""Answers of NVIDIA's Remote Attestation Service (NRAS): who signed them, and what they say.

An answer is NVIDIA's word about evidence that somebody posted. What is verified here is that
NVIDIA said it, now, about this nonce and these very devices; it stays an assertion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta

from teeverify.clock import from_unix, parse_time, show_time
from teeverify.crypto.certificates import Certificate
from teeverify.crypto.jws import Jws, verify_es384
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    StaleEvidence,
)
from teeverify.nvidia.claims import DeviceClaims, device_nonce, same_nonce
from teeverify.nvidia.eat import Answer, claims_of, parse_answer, shown, verify_detached
from teeverify.nvidia.jwks import KeySet
from teeverify.nvidia.statements import Version, choose_rules, expect, verify_statement
from teeverify.roots.anchors import Roots, RootsInput, RootsKind, as_roots

__all__ = ["NrasClaims", "NrasDevice", "merge", "verify_answer"]

KEY = "nras.key"
CLAIMS = "nras.claims"
NONCE = "nras.nonce"
DEVICES = "nras.devices"
LEEWAY = timedelta(seconds=60)
_SUBJECT = "NVIDIA-PLATFORM-ATTESTATION"
_SEAL = Seal("nvidia.nras.verify_answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasDevice:
    """What NRAS says about one device.

    Attributes:
        index: Position of the device in the evidence verified here.
        name: Name that NRAS gives it, for example ``GPU-0``.
        ueid: Serial number of the attestation key's certificate, in decimal.
        hwmodel: The model, as NRAS names it.
        driver_version: Driver version; ``None`` for a switch.
        vbios_version: Version of the VBIOS, or of the NVSwitch BIOS.
        warning: NRAS's warning about the device, if it gave one.
    """

    index: int
    name: str
    ueid: str
    hwmodel: str
    driver_version: str | None
    vbios_version: str
    warning: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasClaims(Sealed):
    """Verified answers: NVIDIA states that the measurements of these devices are its releases.

    Attributes:
        version: Version of the claims, ``2.0`` or ``3.0``.
        devices: What is said about each device, in the order in which they were given.
        nonce: The nonce that was posted.
        issued_at: When NRAS made it.
        expires_at: When it, or the certificate of its key, expires.
        revocation_checked: NRAS says of every chain that it is not revoked (claims 3.0).
        key_ids: The ``kid`` of each key that signed.
        roots_kind: Which kind of roots the certificates of the keys lead to.
    """

    version: Version
    devices: tuple[NrasDevice, ...]
    nonce: bytes
    issued_at: datetime
    expires_at: datetime
    revocation_checked: bool
    key_ids: tuple[str, ...]
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`verify_answer` makes it."""
        self._check_seal(seal, _SEAL)

    @property
    def warnings(self) -> tuple[str, ...]:
        """NRAS's own warnings, each with the device in front."""
        return tuple(f"{item.name}: {item.warning}" for item in self.devices if item.warning)


def verify_answer(
    answer: bytes,
    jwks: bytes,
    *,
    nonce: bytes | str,
    devices: Sequence[DeviceClaims],
    at: datetime | str,
    roots: RootsInput = None,
) -> NrasClaims:
    """Verify that NRAS says yes, about this nonce and exactly these devices.

    Args:
        answer: The body of NRAS's answer.
        jwks: The body of its ``/.well-known/jwks.json``.
        nonce: The 32 bytes that the evidence answers, or their hex.
        devices: Every device that was posted, as verified here, in any order.
        at: The time at which the tokens and the certificates of their keys must be valid.
        roots: Other roots than the embedded ones.

    Raises:
        ConfigurationError: An argument of another type, or a nonce, time or roots that are none.
        MalformedEvidence: A token or a key of another form.
        EndorsementInvalid: Not of the production service, or it says no about anything.
        EndorsementUnavailable: No such key in the JWKS, or something is outside its dates.
        ChainInvalid: The certificates of a key lead elsewhere.
        SignatureInvalid: A token is not signed by its key, or a certificate by its issuer.
        StaleEvidence: It is about another nonce.
        BindingMismatch: It is about other tokens, devices or versions.
    """
    want = device_nonce(nonce)
    moment = parse_time(at)
    trusted = as_roots(roots)
    if not all(isinstance(device, DeviceClaims) for device in devices):
        raise ConfigurationError("devices are nvidia.DeviceClaims", id="usage.evidence")
    if not (isinstance(answer, bytes) and isinstance(jwks, bytes)):
        raise ConfigurationError("answer and jwks are bytes", id="usage.endorsements")
    parsed = parse_answer(answer)
    verify_detached(parsed)
    leaves = _verify_signatures(parsed, KeySet(jwks), trusted, moment)
    version = _verify_result(parsed)
    rules = choose_rules(devices, version)
    for name, token in parsed.submods.items():
        verify_statement(claims_of(token, name, id=CLAIMS), name, rules)
    expires_at = _verify_times(parsed, moment)
    for name, token in parsed.tokens:
        _verify_nonce(token, name, want)
    said = _verify_devices(parsed, devices)
    return NrasClaims(
        version=version,
        devices=said,
        nonce=want,
        issued_at=from_unix(parsed.overall.payload.integer("iat")),
        expires_at=min(expires_at, *(leaf.not_after for leaf in leaves.values())),
        revocation_checked=bool(rules.certified),
        key_ids=tuple(sorted(leaves)),
        roots_kind=trusted.kind,
        seal=_SEAL,
    )


def merge(answers: Sequence[NrasClaims]) -> NrasClaims:
    """Put verified answers about several kinds of devices together: what holds of all of them."""
    first = answers[0]
    return NrasClaims(
        version=min(answer.version for answer in answers),
        devices=tuple(
            sorted(
                (device for answer in answers for device in answer.devices),
                key=lambda device: device.index,
            )
        ),
        nonce=first.nonce,
        issued_at=min(answer.issued_at for answer in answers),
        expires_at=min(answer.expires_at for answer in answers),
        revocation_checked=all(answer.revocation_checked for answer in answers),
        key_ids=tuple(sorted({key for answer in answers for key in answer.key_ids})),
        roots_kind=first.roots_kind,
        seal=_SEAL,
    )


def _verify_signatures(
    answer: Answer, keys: KeySet, roots: Roots, at: datetime
) -> dict[str, Certificate]:
    """Verify every token under a certified key; returns the certificates by key id."""
    leaves: dict[str, Certificate] = {}
    for name, token in answer.tokens:
        kid = token.header.text("kid")
        if kid not in leaves:
            leaves[kid] = keys.certified(kid, roots.nvidia_nras, at=at)
        verify_es384(token, leaves[kid].public_key, id=KEY, what=f"NRAS: the token {name}")
    return leaves


def _verify_result(answer: Answer) -> Version:
    """Verify that the overall token says yes, in claims of a version that is known."""
    overall = claims_of(answer.overall, "overall", id=CLAIMS)
    if not overall.boolean("x-nvidia-overall-att-result"):
        raise EndorsementInvalid(
            "NVIDIA's service (NRAS) says that this evidence did not pass",
            id=CLAIMS,
            got=_reasons(answer),
            want="x-nvidia-overall-att-result true",
        )
    expect(overall, "sub", _SUBJECT, "overall")
    if overall.text("x-nvidia-ver") == "2.0":
        return "2.0"
    expect(overall, "x-nvidia-ver", "3.0", "overall")
    return "3.0"


def _reasons(answer: Answer) -> str:
    """Why NRAS says no, as its tokens tell."""
    reasons: set[str] = set()
    for token in answer.submods.values():
        details = token.payload.raw("x-nvidia-error-details")
        if isinstance(details, dict):
            reasons.add(f"{details.get('code')} {details.get('message')}")
        elif token.payload.raw("measres") != "success":
            reasons.add(f"measres {token.payload.raw('measres')}")
    return shown("; ".join(sorted(reasons)) or "no reason given")


def _verify_times(answer: Answer, at: datetime) -> datetime:
    """Verify the dates of every token (RFC 7519 sections 4.1.4 to 4.1.6); returns the first end."""
    ends = []
    for name, token in answer.tokens:
        claims = claims_of(token, name, id=CLAIMS)
        begin = from_unix(max(claims.integer("iat"), claims.integer("nbf")))
        end = from_unix(claims.integer("exp"))
        ends.append(end)
        if begin - LEEWAY > at:
            problem, got = "is not valid yet", f"valid from {show_time(begin)}"
        elif end + LEEWAY <= at:
            problem, got = "has expired", f"valid until {show_time(end)}"
        else:
            continue
        raise EndorsementUnavailable(
            f"NRAS: the token {name} {problem} at {show_time(at)}",
            id=CLAIMS,
            got=got,
            want=f"valid at {show_time(at)}",
            hint="Answers live an hour: ask NRAS again, or verify at the time of the recording.",
        )
    return min(ends)


def _verify_nonce(token: Jws, name: str, want: bytes) -> None:
    value = token.payload.raw("eat_nonce")
    got = hex_bytes(value, field=f"nras.{name}.eat_nonce", id=NONCE, length=len(want))
    if not same_nonce(got, want):
        raise StaleEvidence(
            f"NRAS: the token {name} is about another nonce",
            id=NONCE,
            got=got.hex(),
            want=want.hex(),
        )


def _verify_devices(answer: Answer, devices: Sequence[DeviceClaims]) -> tuple[NrasDevice, ...]:
    """Verify that each device has exactly one token, which says what the device itself signed."""
    tokens: dict[str, tuple[str, JsonObject]] = {}
    for name, token in answer.submods.items():
        claims = claims_of(token, name, id=DEVICES)
        tokens[claims.text("ueid")] = (name, claims)
    got, want = sorted(tokens), sorted(device.ueid for device in devices)
    if got != want or len(answer.submods) != len(devices):
        raise BindingMismatch(
            "NRAS: the answer is about other devices than the evidence",
            id=DEVICES,
            got=f"{len(answer.submods)} tokens: {', '.join(got)}",
            want=f"{len(devices)} devices: {', '.join(want)}",
        )
    return tuple(_verify_device(device, *tokens[device.ueid]) for device in devices)


def _verify_device(device: DeviceClaims, name: str, claims: JsonObject) -> NrasDevice:
    prefix, bios = ("x-nvidia-gpu", "vbios")
    if device.device_type == "NVSwitch":
        prefix, bios = ("x-nvidia-switch", "bios")
    hwmodel = claims.text("hwmodel")
    vbios = claims.text(f"{prefix}-{bios}-version")
    driver = None if device.driver_version is None else claims.text(f"{prefix}-driver-version")
    # Claims 2.0 name the chip, others the device CA.
    if hwmodel not in (device.chip, device.hwmodel):
        raise _other(device, name, "hwmodel", hwmodel, device.hwmodel)
    if vbios.upper() != device.vbios_version:
        raise _other(device, name, "VBIOS version", vbios, device.vbios_version)
    if driver != device.driver_version:
        raise _other(device, name, "driver version", driver, device.driver_version)
    warning = claims.raw("x-nvidia-attestation-warning")
    return NrasDevice(
        index=device.index,
        name=name,
        ueid=device.ueid,
        hwmodel=hwmodel,
        driver_version=driver,
        vbios_version=vbios,
        warning=None if warning is None else shown(warning),
    )


def _other(
    device: DeviceClaims, name: str, what: str, got: str | None, want: str | None
) -> BindingMismatch:
    return BindingMismatch(
        f"NRAS: the {what} in the token {name} is not the one that {device.name} signed",
        id=DEVICES,
        got=shown(got),
        want=shown(want),
    )

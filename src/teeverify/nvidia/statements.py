"""What NRAS must say about a device, and nothing else, for its statement to be a yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.encoding.fields import JsonObject
from teeverify.errors import EndorsementInvalid
from teeverify.nvidia.claims import DeviceClaims
from teeverify.nvidia.eat import shown

__all__ = ["Rules", "Version", "choose_rules", "expect", "verify_statement"]

CLAIMS = "nras.claims"
Version: TypeAlias = Literal["2.0", "3.0"]

_REPORT = ("parsed", "nonce-match", "signature-verified")
_RIM = ("fetched", "signature-verified", "measurements-available")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which claims about a device must be there.

    Attributes:
        true: Those that must be ``true``.
        described: Those that must be ``true`` where they are: NRAS leaves them out at times.
        certified: Chains that must be valid and not revoked.
    """

    true: tuple[str, ...]
    described: tuple[str, ...]
    certified: tuple[str, ...]


def _rules(prefix: str, rims: Sequence[str], version: Version, more: Sequence[str]) -> Rules:
    """Claims 2.0 say of a chain that it was validated, 3.0 how, with its revocation."""
    old = version == "2.0"
    report = (*_REPORT, "cert-chain-validated" if old else "cert-chain-fwid-match")
    rim = (*_RIM, "cert-validated" if old else "version-match")
    names = ["arch-check", *more, *(f"attestation-report-{step}" for step in report)]
    names += [f"{part}-{step}" for part in rims for step in rim]
    chains = () if old else ("attestation-report", *rims)
    return Rules(
        true=tuple(f"{prefix}-{name}" for name in names),
        described=tuple(f"{prefix}-{part}-schema-validated" for part in rims),
        certified=tuple(f"{prefix}-{part}-cert-chain" for part in chains),
    )


_GPU = ("x-nvidia-gpu", ("driver-rim", "vbios-rim"))
_SWITCH = ("x-nvidia-switch", ("bios-rim",))
# NRAS's claims 2.0 about a switch were never seen, so they are not taken.
_RULES: Mapping[tuple[str, str], Rules] = {
    ("GPU", "2.0"): _rules(*_GPU, "2.0", ("vbios-index-no-conflict",)),
    ("GPU", "3.0"): _rules(*_GPU, "3.0", ("vbios-index-no-conflict",)),
    ("NVSwitch", "3.0"): _rules(*_SWITCH, "3.0", ()),
}


def choose_rules(devices: Sequence[DeviceClaims], version: Version) -> Rules:
    """The rules for these devices: all of one type, because NRAS is asked about one at a time."""
    kinds = {device.device_type for device in devices}
    rules = _RULES.get((kinds.pop(), version)) if len(kinds) == 1 else None
    if rules is None:
        raise EndorsementInvalid(
            "NRAS: no rule says what its answer must hold for such devices",
            id=CLAIMS,
            got=f"claims {version} about {sorted({device.device_type for device in devices})}",
            want="claims 2.0 or 3.0 about GPUs, or 3.0 about NVSwitches",
        )
    return rules


def expect(claims: JsonObject, claim: str, want: str, name: str) -> None:
    """Demand one exact text."""
    if claims.text(claim) != want:
        raise _refused(name, claim, claims.raw(claim), want)


def _refused(name: str, claim: str, got: object, want: str) -> EndorsementInvalid:
    return EndorsementInvalid(
        f"NRAS: the token {name} does not say {want} as {shown(claim)}",
        id=CLAIMS,
        got=shown(got),
        want=want,
    )


def verify_statement(claims: JsonObject, name: str, rules: Rules) -> None:
    """Verify that every claim about a device is there and good, and that no other one is bad."""
    details = claims.raw("x-nvidia-error-details")
    if details is not None:
        raise EndorsementInvalid(
            f"NRAS: the token {name} is an error", id=CLAIMS, got=shown(details)
        )
    expect(claims, "measres", "success", name)
    expect(claims, "dbgstat", "disabled", name)
    there = (claim for claim in rules.described if claim in claims)
    for claim in ("secboot", *rules.true, *there):
        if not claims.boolean(claim):
            raise _refused(name, claim, False, "true")  # noqa: FBT003
    for claim in rules.certified:
        chain = claims.object(claim)
        expect(chain, "x-nvidia-cert-status", "valid", name)
        expect(chain, "x-nvidia-cert-ocsp-status", "good", name)
        if chain.raw("x-nvidia-cert-revocation-reason") is not None:
            reason = chain.raw("x-nvidia-cert-revocation-reason")
            raise _refused(name, "x-nvidia-cert-revocation-reason", reason, "null")
        _refuse_false(chain, name)
    _refuse_false(claims, name)


def _refuse_false(claims: JsonObject, name: str) -> None:
    """Refuse any claim that says no, also one that this version does not know."""
    for claim in sorted(claims.names()):
        if claims.raw(claim) is False:
            raise _refused(name, claim, False, "true")  # noqa: FBT003

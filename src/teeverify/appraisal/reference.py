"""Reference values: the code that the relying party expects, each with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from teeverify.encoding.strict import hex_bytes
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = [
    "REGISTERS",
    "CodeReference",
    "CompleteCode",
    "Identity",
    "KnownCode",
    "ReferenceValues",
    "complete_code",
    "first_difference",
    "toml_value",
]

CompleteCode: TypeAlias = frozenset[tuple[str, ...]]

REGISTERS: Mapping[str, int] = {
    "mr_td": 48,
    "rtmr0": 48,
    "rtmr1": 48,
    "rtmr2": 48,
    "rtmr3": 48,
    "mr_config_id": 48,
    "compose_hash": 32,
    "os_image_hash": 32,
    "measurement": 48,
    "host_data": 32,
    "id_key_digest": 48,
    "author_key_digest": 48,
    **{f"pcr{number}": 32 for number in range(24)},
}
"""Measurements that a reference may name, with their sizes in bytes."""

_SOURCES = ("release", "rebuilt", "pinned")
_ROLES = ("", "model", "gateway", "component")
# Without these a machine's code is not identified at all (policy.md, complete code identity).
_BASE = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
# And one of these, because the measured image is a loader: they name what it loads.
_LOADED = ("rtmr3", "mr_config_id", "compose_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The measurements of one verified machine.

    Attributes:
        role: What the machine is.
        registers: The measurements by register name, in lower-case hex.
        unmeasured: What runs and is known not to be in these registers; empty where that is not
            known of anything.
    """

    role: str
    registers: Mapping[str, str]
    unmeasured: str = ""


def complete_code(identities: Sequence[Identity]) -> CompleteCode:
    """What must be equal for two sets of machines to run the same code (policy.md).

    A register that also takes the machine's own name (RTMR3 of dstack's guests) counts only where
    nothing else says what the measured loader loads. A virtual TPM (Azure) measures that itself.
    """
    return frozenset(
        (one.role, *(f"{name} {one.registers[name]}" for name in _telling(one.registers)))
        for one in identities
        if one.role != "compose-manager"  # the model's own machine once more
    )


def _telling(registers: Mapping[str, str]) -> tuple[str, ...]:
    """The registers that identify a machine's code."""
    if "measurement" in registers:
        return tuple(sorted(registers))
    quoted = sorted(name for name in registers if name.startswith("pcr"))
    if quoted:
        return (*_BASE, "rtmr3", "mr_config_id", *quoted)
    if registers.get("mr_config_id", "").strip("0"):
        return (*_BASE, "mr_config_id")
    hashes = tuple(name for name in ("compose_hash", "os_image_hash") if name in registers)
    return (*_BASE, *hashes) if "compose_hash" in hashes else (*_BASE, "rtmr3")


def first_difference(known: CompleteCode, fresh: CompleteCode) -> str:
    """The first register that is another one, for people."""
    gone, new = sorted(known - fresh), sorted(fresh - known)
    for before, after in zip(gone, new, strict=False):
        for old, other in zip(before, after, strict=False):
            if old != other:
                return f"{old[:32]}… then, {other[:32]}… now"
    return f"{len(known)} kinds of machine then, {len(fresh)} now"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCode:
    """The code that an endpoint ran when it was first seen here, or when somebody accepted it.

    Attributes:
        code: The complete code identity.
        since: The time, for people.
    """

    code: CompleteCode
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReference:
    """One piece of code that is expected.

    Attributes:
        name: How sentences name it, for example ``release v1.4``.
        source: ``release`` (a signed release), ``rebuilt`` (recomputed from inputs) or ``pinned``
            (seen on a day, by somebody).
        seen: For ``pinned``: the day it was seen.
        reviewed_by: For ``pinned``: who has looked at that code; empty means nobody.
        role: Which machine it is for (``model``, ``gateway``...); empty means any.
        registers: Accepted values by register, each in lower-case hex.
    """

    name: str
    source: str
    seen: str = ""
    reviewed_by: str = ""
    role: str = ""
    registers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def missing_for(self, identity: Identity) -> tuple[str, ...]:
        """The registers that a complete identity of such a machine would need in addition."""
        if "measurement" in identity.registers:
            # A launch with host data is one of a loader, which takes from there what it loads.
            # A paravisor (Azure) loads the system, and a virtual TPM measures it.
            on_top = [n for n in identity.registers if n == "host_data" or n.startswith("pcr")]
            missing = [n for n in ("measurement", *on_top) if n not in self.registers]
            return tuple([*missing, identity.unmeasured] if identity.unmeasured else missing)
        # On Azure it is the virtual TPM that measures what was loaded.
        quoted = [name for name in identity.registers if name.startswith("pcr")]
        missing = [name for name in (*_BASE, *quoted) if name not in self.registers]
        if not quoted and not any(name in self.registers for name in _LOADED):
            missing.append(" or ".join(_LOADED))
        return tuple(missing)

    @property
    def reviewed(self) -> bool:
        """Whether somebody stands for this code: a pinned value is only an observation."""
        return self.source != "pinned" or bool(self.reviewed_by.strip())

    def differences(self, identity: Identity) -> tuple[str, ...]:
        """The registers in which a machine differs from this reference."""
        return tuple(
            name
            for name, accepted in self.registers.items()
            if identity.registers.get(name) not in accepted
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """All the code that is expected; a machine must equal one entry for its role."""

    entries: tuple[CodeReference, ...] = ()

    @classmethod
    def from_list(cls, content: object) -> ReferenceValues:
        """Read the ``[[code]]`` tables of a policy file.

        Raises:
            ConfigurationError: An unknown key, a wrong length, a missing name or source.
        """
        if not isinstance(content, Sequence) or isinstance(content, (str, bytes)):
            raise _wrong("code", content, "[[code]] tables")
        return cls(entries=tuple(_read_entry(item, n) for n, item in enumerate(content)))

    @classmethod
    def pin(cls, identities: Sequence[Identity], *, seen: str) -> ReferenceValues:
        """Take down what was seen, as what it is: an observation that nobody reviewed.

        Of each machine it takes the registers of :func:`complete_code`, so that another machine
        with the same code has the same.

        Args:
            identities: The machines of a result (``result.identities``).
            seen: The day, for the sentence that names it.
        """
        return cls(
            entries=tuple(
                CodeReference(
                    name=f"seen on {seen}",
                    source="pinned",
                    seen=seen,
                    role=identity.role,
                    registers={
                        name: (identity.registers[name],) for name in _telling(identity.registers)
                    },
                )
                for identity in identities
                if identity.role != "compose-manager"  # the model's own machine once more
            )
        )

    def to_toml(self) -> str:
        """The entries as the ``[[code]]`` tables of a policy file."""
        lines: list[str] = []
        for entry in self.to_list():
            lines += ["", "[[code]]", *(f"{k} = {toml_value(v)}" for k, v in entry.items())]
        return "\n".join([*lines, ""]) if lines else ""

    def to_list(self) -> list[dict[str, Any]]:
        """The entries in the structure of the TOML file."""
        result = []
        for entry in self.entries:
            item: dict[str, Any] = {"name": entry.name, "source": entry.source}
            for key in ("seen", "reviewed_by", "role"):
                if getattr(entry, key) or (key == "reviewed_by" and entry.source == "pinned"):
                    item[key] = getattr(entry, key)
            item.update({name: list(values) for name, values in entry.registers.items()})
            result.append(item)
        return result


def toml_value(value: object) -> str:
    """A text, number, truth value or list as TOML 1.0 writes it.

    JSON's spelling is TOML's too, but for characters beyond 16 bits and DEL (TOML, "String").
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_entry(item: object, number: int) -> CodeReference:
    where = f"code[{number}]"
    if not isinstance(item, Mapping):
        raise _wrong(where, item, "a table")
    texts = {"name": "", "source": "", "seen": "", "reviewed_by": "", "role": ""}
    registers: dict[str, tuple[str, ...]] = {}
    for key, value in item.items():
        if key in texts and isinstance(value, str):
            texts[key] = value
        elif key in REGISTERS:
            registers[key] = _read_register(f"{where}.{key}", value, REGISTERS[key])
        else:
            raise _wrong(f"{where}.{key}", value, f"one of {', '.join([*texts, *REGISTERS])}")
    if not texts["name"] or texts["source"] not in _SOURCES:
        raise _wrong(where, item, f"a name, and a source: {', '.join(_SOURCES)}")
    if texts["role"] not in _ROLES:
        raise _wrong(f"{where}.role", texts["role"], "model, gateway or component; or none")
    if not registers:
        raise _wrong(where, item, f"at least one of {', '.join(REGISTERS)}")
    return CodeReference(**texts, registers=registers)


def _read_register(where: str, value: object, size: int) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _wrong(where, value, f"hex of {size} bytes, or a list of them")
    try:
        return tuple(
            hex_bytes(v, field=where, id="usage.policy", length=size).hex() for v in values
        )
    except MalformedEvidence:
        raise _wrong(where, value, f"hex of {size} bytes, or a list of them") from None


def _wrong(where: str, got: object, want: str) -> ConfigurationError:
    return ConfigurationError(
        f"the policy's {where} is wrong", id="usage.policy", got=repr(got)[:80], want=want
    )

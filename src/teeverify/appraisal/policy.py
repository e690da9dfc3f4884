"""The appraisal policy: what the relying party accepts, as data."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teeverify.appraisal.presets import LEVELS, PARAMETERS, ROWS, Level, Parameter, PresetName
from teeverify.appraisal.reference import ReferenceValues, toml_value
from teeverify.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Policy"]

_MAX_POLICY_BYTES = 1024 * 1024
_MOST = 100_000_000  # of days, what a timedelta can hold
_ROWS = {row.id: row for row in ROWS}
_PARAMETERS = {parameter.name: parameter for parameter in PARAMETERS}
_SECTIONS = {name.partition(".")[0] for name in _PARAMETERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What must hold of evidence and answers. Immutable; made by one of the constructors below.

    Attributes:
        name: How results name it: the preset, or the file it was read from.
        extends: The preset it starts from.
        levels: Level demanded of each row of the table.
        parameters: Value of each parameter, by dotted name.
        references: The code that is expected.
    """

    name: str
    extends: PresetName
    levels: Mapping[str, Level]
    parameters: Mapping[str, Any]
    references: ReferenceValues

    @classmethod
    def genuine(cls) -> Policy:
        """The preset for a first look: genuine hardware, whatever code runs in it."""
        return cls._preset("genuine")

    @classmethod
    def strict(cls) -> Policy:
        """The preset for money and secrets."""
        return cls._preset("strict")

    @classmethod
    def _preset(cls, name: PresetName) -> Policy:
        return cls(
            name=name,
            extends=name,
            levels={row.id: getattr(row, name) for row in ROWS},
            parameters={p.name: copy.copy(getattr(p, name)) for p in PARAMETERS},
            references=ReferenceValues(),
        )

    @classmethod
    def of(cls, value: str | Path | Policy) -> Policy:
        """What ``policy=`` takes everywhere: a preset's name, a path of a TOML file, or a policy.

        Raises:
            ConfigurationError: The file is not there, or is no policy.
        """
        if isinstance(value, Policy):
            return value
        if value == "genuine":
            return cls.genuine()
        if value == "strict":
            return cls.strict()
        return cls.load(value)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy from a TOML file.

        Raises:
            ConfigurationError: The file cannot be read, or holds anything that a policy does not
                know: a typo must never leave a check out.
        """
        try:
            file = Path(path)
            with file.open("rb") as stream:
                raw = stream.read(_MAX_POLICY_BYTES + 1)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"the policy file cannot be read: {getattr(error, 'strerror', None) or 'no path'}",
                id="usage.policy",
                got=ascii(path)[:200],
                want="genuine, strict, or a TOML file",
            ) from None
        if len(raw) > _MAX_POLICY_BYTES:
            raise ConfigurationError("the policy file is too large", id="usage.policy")
        try:
            mapping = tomllib.loads(raw.decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = "no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise ConfigurationError(
                f"the policy file is not TOML: {reason}", id="usage.policy", got=str(path)
            ) from None
        return cls.from_mapping(mapping, name=file.name)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, name: str) -> Policy:
        """Make a policy from the structure of its TOML file.

        Raises:
            ConfigurationError: An unknown key, or a value of the wrong kind.
        """
        if not isinstance(mapping, Mapping) or not all(isinstance(key, str) for key in mapping):
            raise _wrong("form", mapping, "a table")
        extends = mapping.get("extends", "genuine")
        if extends not in ("genuine", "strict"):
            raise _wrong("extends", extends, "genuine or strict")
        base = cls._preset(extends)
        rest = {key: value for key, value in mapping.items() if key != "extends"}
        return dataclasses.replace(base.replace(**rest), name=name)

    def replace(self, **sections: Any) -> Policy:  # noqa: ANN401 -- the structure of the TOML file
        """A policy with some values changed, given by the sections of the TOML file.

        Example:
            ``Policy.genuine().replace(gpu={"count": 8}, require={"endpoint.bound": "proven"})``

        Raises:
            ConfigurationError: An unknown key, or a value of the wrong kind.
        """
        levels = dict(self.levels)
        parameters = dict(self.parameters)
        references = self.references
        for section, content in sections.items():
            if section == "require":
                levels.update(_read_levels(content))
            elif section == "code":
                references = ReferenceValues.from_list(content)
            elif section in _SECTIONS and isinstance(content, Mapping):
                parameters.update(_read_parameters(section, content))
            else:
                known = ["extends", "require", "code", *sorted(_SECTIONS)]
                raise _wrong(section, "unknown section", f"one of {', '.join(known)}")
        return Policy(
            name=self.name if self.name.endswith("+") else f"{self.name}+",
            extends=self.extends,
            levels=levels,
            parameters=parameters,
            references=references,
        )

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        """The value of a parameter, by dotted name."""
        return self.parameters[name]

    def level(self, check_id: str) -> Level:
        """The level demanded of a check; a check that is no row of the table must be proven."""
        return self.levels.get(check_id, "proven")

    def for_tier(self) -> Policy:
        """The policy by which the tier is computed: ``strict``, with this policy's wishes."""
        strict = Policy.strict()
        # A status that a strict policy lists by name is the user's informed choice.
        kept = {"tdx.accepted"} if self.extends == "strict" else set()
        wishes = {p.name: self.parameters[p.name] for p in PARAMETERS if p.wish or p.name in kept}
        levels = {row.id: "note" if not row.tier else strict.levels[row.id] for row in ROWS}
        return Policy(
            name="strict",
            extends="strict",
            levels=levels,
            parameters={**strict.parameters, **wishes},
            references=self.references,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Every effective value, in the structure of the TOML file."""
        mapping: dict[str, Any] = {"extends": self.extends, "require": dict(self.levels)}
        for name, value in self.parameters.items():
            section, _, key = name.partition(".")
            if value is not None:
                mapping.setdefault(section, {})[key] = value
        if self.references.entries:
            mapping["code"] = self.references.to_list()
        return mapping

    @property
    def hash(self) -> str:
        """SHA-256 over every effective value, in hex: two policies that act alike have one hash."""
        text = json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_toml(self) -> str:
        """Every effective value as a TOML file that :meth:`load` reads."""
        mapping = self.to_mapping()
        lines = [f"extends = {json.dumps(mapping.pop('extends'))}"]
        mapping.pop("code", None)
        for section, content in mapping.items():
            lines += ["", f"[{section}]"]
            lines += [f"{_toml_key(k)} = {toml_value(v)}" for k, v in content.items()]
        return "\n".join(lines) + "\n" + self.references.to_toml()


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").isalnum() else json.dumps(key)


def _wrong(where: str, got: object, want: str) -> ConfigurationError:
    return ConfigurationError(
        f"the policy's {where} is wrong",
        id="usage.policy",
        got=repr(got)[:80],
        want=want,
        hint="Nothing was verified: a key that is not understood could be a check left out.",
    )


def _read_levels(content: object) -> dict[str, Level]:
    if not isinstance(content, Mapping):
        raise _wrong("require", content, "a table of check ids and levels")
    levels: dict[str, Level] = {}
    for name, value in content.items():
        row = _ROWS.get(name)
        if row is None:
            near = difflib.get_close_matches(str(name), _ROWS, n=2)
            such = f", such as {' or '.join(near)}" if near else ""
            raise _wrong(
                f"require.{name}",
                "no check that policies decide on",
                f"one of 'teeverify policy show'{such}; every other check must pass",
            )
        if value not in LEVELS:
            raise _wrong(f"require.{name}", value, ", ".join(LEVELS))
        if LEVELS.index(value) < LEVELS.index(row.floor):
            raise _wrong(f"require.{name}", value, f"{row.floor} or stronger")
        levels[name] = value
    return levels


def _read_parameters(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{section}.{key}"
        parameter = _PARAMETERS.get(name)
        if parameter is None:
            known = [n for n in _PARAMETERS if n.startswith(f"{section}.")]
            raise _wrong(name, "unknown key", ", ".join(known))
        values[name] = _checked(parameter, value)
    return values


def _checked(parameter: Parameter, value: object) -> object:
    """A value of the parameter's own type, or an error."""
    if isinstance(parameter.genuine, list):
        good = isinstance(value, list) and all(type(item) is parameter.item for item in value)
        if not good:
            raise _wrong(parameter.name, value, f"a list of {parameter.item.__name__}")
        items: list[str] = list(value)  # type: ignore[call-overload]
        for item in items:  # a misspelt name would be compared with nothing
            if not re.fullmatch(parameter.form, item):
                raise _wrong(parameter.name, item, parameter.form.replace("|", ", "))
        return items
    kind = parameter.item if parameter.genuine is None else type(parameter.genuine)
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value <= _MOST):
        raise _wrong(parameter.name, value, f"a value of type {kind.__name__}, 0 to {_MOST}")
    if parameter.name == "verdict.accept" and value not in ("warning", "affirming"):
        raise _wrong(parameter.name, value, "warning or affirming")
    return value

"""What ``teeverify serve`` can be told: by flag, else by environment, else by a TOML file.

What makes a server unsafe or simulated has to be typed out: no environment and no file can do it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teeverify.errors import ConfigurationError
from teeverify.testing import FAULTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["add_options", "complete"]

_PREFIX = "TEEVERIFY_SERVE_"
_SEPARATOR = ","
_DAY = 86_400
_MOST_BYTES = 10**15
_EXIT_CODES = (
    "exit codes: 0 stopped by SIGTERM or SIGINT; 3 the engine does not answer, or the machine is "
    "no TEE or gives no evidence; 64 wrong use, a busy port, or a store that cannot be opened; "
    "70 our bug"
)


def _text(text: str) -> str:
    """A text that says something."""
    if not text or "\0" in text:  # an empty address is every one, an empty file one that goes
        raise argparse.ArgumentTypeError("an empty text says nothing")
    return text


@dataclass(frozen=True, slots=True)
class _Number:
    """Makes a number of text: finite, and within bounds."""

    kind: Callable[[str], float]
    least: float
    most: float

    def __call__(self, text: str) -> float:
        with contextlib.suppress(ValueError):
            value = self.kind(text)
            if self.least <= value <= self.most:
                return value
        kind = "whole number" if self.kind is int else "number"
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no {kind} from {self.least} to {self.most}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One thing to be told.

    Attributes:
        name: Its name, as the flag has it.
        default: What holds where nothing is said.
        metavar: What stands for its value in the help.
        help: What it does.
        kind: Makes a value of text.
        many: Whether it may be given several times (in the environment: with commas between).
    """

    name: str
    default: Any
    metavar: str
    help: str
    kind: Callable[[str], Any] = _text
    many: bool = False

    @property
    def key(self) -> str:
        """Its name as an attribute, and in a TOML file."""
        return self.name.replace("-", "_")

    def read(self, value: object, where: str) -> Any:  # noqa: ANN401 -- of its kind
        """Make its value of what stands in the environment or in a file."""
        if self.many:
            parts = value.split(_SEPARATOR) if isinstance(value, str) else value
            if not isinstance(parts, list):
                raise _wrong("this option takes a list", where)
            if self.default and not parts:
                raise _wrong("this option takes one value or more", where)
            return [self._one(part, where) for part in parts]
        return self._one(value, where)

    def _one(self, value: object, where: str) -> Any:  # noqa: ANN401
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise _wrong("this option takes a text or a number", where)
        try:
            return self.kind(str(value))
        except argparse.ArgumentTypeError as error:
            raise _wrong(f"this option does not take that: {error}", where) from None


_OPTIONS = (
    _Option(name="host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on"),
    _Option(
        name="port",
        default=0,
        metavar="N",
        help="port; 0 for any that is free",
        kind=_Number(int, 0, 65_535),
    ),
    _Option(
        name="model",
        default=None,
        metavar="M",
        help="name of the model; by default the upstream's only one, else 'default'",
    ),
    _Option(
        name="upstream",
        default=None,
        metavar="URL",
        help="engine within this machine: http://127.0.0.1:8000/v1 or unix:/path",
    ),
    _Option(
        name="upstream-key-file", default=None, metavar="PATH", help="key that the engine asks for"
    ),
    _Option(
        name="upstream-silence",
        default=None,
        metavar="SECONDS",
        help="how long the engine may send nothing; by default 600",
        kind=_Number(float, 1, _DAY),
    ),
    _Option(
        name="wait",
        default=None,
        metavar="SECONDS",
        help="how long to wait at the start for an upstream that does not answer yet",
        kind=_Number(float, 0, _DAY),
    ),
    _Option(
        name="vllm",
        default=None,
        metavar="FOLDER",
        help="start vLLM with this model, and start it again when it dies",
    ),
    _Option(
        name="vllm-command",
        default=None,
        metavar="PROGRAM",
        help="the program that is started with --vllm; by default vllm",
    ),
    _Option(
        name="vllm-argument",
        default=[],
        metavar="TEXT",
        help="a further argument for vLLM; may be given several times (--vllm-argument=--flag)",
        many=True,
    ),
    _Option(
        name="dialect",
        default=["teeverify/1"],
        metavar="NAME",
        help="dialect to speak: teeverify/1, or one of the field: dstack, phala, near; of several "
        "the first where a client names none",
        many=True,
    ),
    _Option(
        name="api-key-file",
        default=None,
        metavar="PATH",
        help="file with the keys of which clients must show one, one a line",
    ),
    _Option(
        name="store",
        default=None,
        metavar="PATH|URL",
        help="what keeps the signatures: a file, or redis://host:port/0; by default memory",
    ),
    _Option(
        name="store-bytes",
        default=1024**3,
        metavar="N",
        help="how much the file or the memory may hold; when full, no answer is begun",
        kind=_Number(int, 1, _MOST_BYTES),
    ),
    _Option(
        name="ttl",
        default=3600,
        metavar="SECONDS",
        help="how long a signature can be fetched",
        kind=_Number(int, 1, 3650 * _DAY),
    ),
    _Option(
        name="attestation-rate",
        default=50.0,
        metavar="N",
        help="how many reports a second are made, over time",
        kind=_Number(float, 0.001, 1_000_000),
    ),
    _Option(
        name="drain",
        default=30,
        metavar="SECONDS",
        help="how long running answers may take to end after SIGTERM",
        kind=_Number(int, 0, _DAY),
    ),
    _Option(name="log", default="text", metavar="text|json", help="form of the log on stderr"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "--simulated", action="store_true", help="on a simulated machine, which proves nothing"
    )
    parser.add_argument(
        "--tee",
        choices=("auto", "dstack", "tsm", "tdx", "sev", "azure"),
        help="on this machine's own TEE, or not at all; auto: the best interface that answers",
    )
    parser.add_argument(
        "--nvidia-sdk",
        metavar="PYTHON",
        help="ask the GPUs through NVIDIA's SDK, in this interpreter's environment; else NVML",
    )
    parser.add_argument(
        "--switches", action="store_true", help="with --nvidia-sdk: ask the NVSwitches too"
    )
    parser.add_argument(
        "--even-on-a-tee", action="store_true", help="simulate although this machine is a real TEE"
    )
    parser.add_argument(
        "--tls", action="store_true", help="speak TLS with a key made here, which is attested"
    )
    parser.add_argument(
        "--tls-name",
        action="append",
        default=[],
        metavar="NAME",
        help="name or address of the server for its certificate; may be given several times",
    )
    parser.add_argument(
        "--gpus", type=_Number(int, 0, 64), metavar="N", help="simulated GPUs; by default 8"
    )
    parser.add_argument("--roots-file", metavar="PATH", help="where to write the test roots")
    parser.add_argument(
        "--engine", choices=("tiny",), help="the embedded test engine, which is not vLLM"
    )
    parser.add_argument(
        "--unsafe-remote-upstream",
        action="store_true",
        help="take an upstream on another machine; clients refuse such a server",
    )
    parser.add_argument(
        "--fault",
        choices=tuple(FAULTS),
        metavar="NAME",
        help=f"what to do wrong, for clients to refuse: {', '.join(FAULTS)}",
    )
    parser.add_argument("--config", metavar="F.toml", help="file with the options below")
    told = parser.add_argument_group(
        "options", f"also in the environment ({_PREFIX}PORT=...) and in the file (port = ...)"
    )
    for option in _OPTIONS:
        told.add_argument(
            f"--{option.name}",
            type=option.kind,
            action="append" if option.many else "store",
            metavar=option.metavar,
            help=option.help,
        )


def complete(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> argparse.Namespace:
    """Fill in what no flag says, from the environment, the file, and the defaults.

    Raises:
        ConfigurationError: A name that there is not, or a value of another kind.
    """
    known = {option.key: option for option in _OPTIONS}
    told = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(_PREFIX)
    }
    written = _load(options.config) if options.config is not None else {}
    for place, names in (("the environment", told), (str(options.config), written)):
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    "there is no such option",
                    id="usage.serve",
                    got=f"{name} in {place}"[:200],
                    want=", ".join(known),
                )
    for key, option in known.items():
        if getattr(options, key) is not None:
            continue
        value = option.default
        if key in told:
            value = option.read(told[key], _PREFIX + key.upper())
        elif key in written:
            value = option.read(written[key], f"{key} in {options.config}")
        setattr(options, key, value)
    return options


def _wrong(message: str, where: str) -> ConfigurationError:
    return ConfigurationError(message, id="usage.serve", got=where[:200])


def _load(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(f"the file cannot be read: {error.strerror}", path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong("the file is no TOML", path) from None

"""``teeverify doctor``: what this installation is, and whether anything about it is odd."""

from __future__ import annotations

import argparse
import json
import os
import platform
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.backends.openssl import backend

from teeverify import __version__
from teeverify.clock import now, show_time
from teeverify.encoding.text import counted
from teeverify.endorsements.store import default_folder
from teeverify.endorsements.tls import system_authorities, tls_library
from teeverify.errors import EXIT_POLICY, EXIT_SATISFIED, ConfigurationError
from teeverify.render import printable
from teeverify.roots import EMBEDDED

__all__ = ["Line", "add_doctor", "doctor", "examine", "version_of"]

# No clock is right that is before the day on which this was written.
_BUILT = datetime(2026, 11, 22, tzinfo=timezone.utc)
_ANOTHER = "name another with TEEVERIFY_CACHE"
_CORE = ("cryptography", "requests", "pyjwt", "ecdsa")
_OPTIONAL = {
    "coincurve": "fast",
    "safe-pysha3": "fast",
    "openai": "openai",
    "httpx2": "openai",
    "rich": "cli",
    "pynacl": "e2ee",
    "sigstore": "sigstore",
    "starlette": "server",
    "redis": "redis",
    "pyarrow": "audit",
    "ray": "ray",
    "nv-attestation-sdk": "nvidia",
}
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at.

    Attributes:
        topic: Versions, roots, cache, clock, network or enclave.
        name: What it is.
        value: What was found.
        problem: What is odd about it, with what to do; empty if nothing is.
    """

    topic: str
    name: str
    value: str
    problem: str = ""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--enclave",
        action="store_true",
        help="also ask this machine's TEE and GPUs for evidence, as 'serve --tee auto' would",
    )


def doctor(options: argparse.Namespace) -> int:
    """Say what is here. Exit 1 where something is odd; opens no socket of a network."""
    lines = list(examine(now()))
    if options.enclave:
        from teeverify.cli.doctor_enclave import examine_enclave  # noqa: PLC0415 -- for servers

        lines += examine_enclave()
    problems = [line for line in lines if line.problem]
    if options.json:
        items = [asdict(line) for line in lines]
        print(json.dumps({"schema": "teeverify.doctor/1", "good": not problems, "lines": items}))
        return EXIT_POLICY if problems else EXIT_SATISFIED
    topic = ""
    for line in lines:
        if line.topic != topic:
            topic = line.topic
            print(topic)
        print(f"  {line.name:<30} {printable(line.value)}")
        if line.problem:
            print(f"  {'':<30} ODD: {printable(line.problem)}")
    print(f"{len(problems)} odd" if problems else "Nothing is odd.")
    return EXIT_POLICY if problems else EXIT_SATISFIED


def examine(moment: datetime) -> Iterator[Line]:
    """Look at everything.

    Args:
        moment: Now, by this machine's clock.
    """
    yield from _versions()
    yield from _roots()
    yield from _cache(moment)
    yield from _clock(moment)
    yield from _network()


def _versions() -> Iterator[Line]:
    yield Line("versions", "teeverify", __version__)
    yield Line("versions", "Python", f"{platform.python_version()} on {platform.platform()}")
    yield Line("versions", "OpenSSL (signatures)", backend.openssl_version_text())
    yield Line("versions", "OpenSSL (TLS)", tls_library())
    for name in _CORE:
        version = version_of(name)
        problem = "" if version else "it is needed: install teeverify again"
        yield Line("versions", name, version or "not installed", problem)
    for name, extra in _OPTIONAL.items():
        missing = f"not installed (pip install 'teeverify[{extra}]')"
        yield Line("versions", name, version_of(name) or missing)


def version_of(name: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _roots() -> Iterator[Line]:
    for vendor in ("intel", "amd", "nvidia_device", "nvidia_rim", "nvidia_nras"):
        for anchor in getattr(EMBEDDED, vendor):
            yield Line("roots (sha256 of the public key)", anchor.name, anchor.fingerprint)


def _cache(moment: datetime) -> Iterator[Line]:
    try:
        folder = default_folder()
        there = folder.is_dir()
        status = folder.stat() if there else None
        files = [file for file in folder.rglob("*") if file.is_file()] if there else []
        newest = max((file.stat().st_mtime for file in files), default=None)
    except (OSError, ConfigurationError) as error:
        yield Line("cache", "folder", str(error), _ANOTHER)
        return
    if status is None:
        parent = next((each for each in folder.parents if each.exists()), folder)
        usable = parent.is_dir() and os.access(parent, os.W_OK)
        problem = "" if usable else f"it cannot be made: {_ANOTHER}"
        yield Line("cache", "folder", f"{folder} (not there yet)", problem)
        return
    yield Line(
        "cache", "folder", f"{folder}, {counted(len(files), 'file')}", _rights(folder, status)
    )
    if newest is not None and newest > moment.timestamp() + 600:
        yield Line(
            "cache", "newest file", "of the future", "the clock was set back: check your clock"
        )


def _rights(folder: Path, status: os.stat_result) -> str:
    if os.name != "posix":
        return ""
    if status.st_uid != os.getuid():
        return "it is not yours"
    if not os.access(folder, os.W_OK):
        return f"it cannot be written: {_ANOTHER}"
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return f"others can write it: chmod 700 {folder}" if others else ""


def _clock(moment: datetime) -> Iterator[Line]:
    problem = "it is before this version was made: set it" if moment < _BUILT else ""
    yield Line("clock", "now", show_time(moment), problem)


def _network() -> Iterator[Line]:
    """Proxies and authorities of the environment; a proxy's password is not shown."""
    for name in _PROXIES:
        value = os.environ.get(name) or os.environ.get(name.lower())
        if value:
            yield Line("network", name, value if name == "NO_PROXY" else _host(value))
    for name in _AUTHORITIES:
        value = os.environ.get(name)
        if value:
            problem = "" if Path(value).exists() else "there is nothing at this path"
            yield Line("network", name, value, problem)
    yield Line("network", "CAs of this system", system_authorities() or "none found")


def _host(proxy: str) -> str:
    try:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return "unreadable"
    return f"{host or 'unreadable'}{f':{port}' if port else ''}"

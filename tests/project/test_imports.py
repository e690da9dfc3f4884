"""Who may import whom, what an import costs, and which names are public (laws 5, 6 and 14)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("requests", "jwt", "ecdsa", "numpy", "rich", "openai", "starlette")
NETWORK = (
    "aiohttp", "ftplib", "http", "httpx", "httpx2", "requests", "smtplib", "socket",
    "socketserver", "ssl", "telnetlib", "urllib.request", "urllib3", "websockets", "xmlrpc",
)  # fmt: skip
ASYNC_NETWORK = (
    "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection",
    "create_unix_server", "open_connection", "open_unix_connection", "start_server",
    "start_unix_server",
)  # fmt: skip
MAY_OPEN_SOCKETS = ("endorsements", "client", "enclave", "bench")
MAY_IMPORT_SIMULATOR = ("simulator", "enclave", "testing", "cli")


@pytest.mark.parametrize("module", ["teeverify", "teeverify.cli.commands"])
def test_an_import_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_are_the_reviewed_ones():
    import teeverify

    reviewed = (Path(__file__).parent / "public_names.txt").read_text(encoding="utf-8").split()
    assert sorted(teeverify.__all__) == sorted(reviewed)
    missing = [name for name in reviewed if not _is_there(teeverify, name)]
    assert set(missing) <= {"AsyncOpenAI", "OpenAI"}
    if importlib.util.find_spec("httpx2") and importlib.util.find_spec("openai"):
        assert missing == []


def _is_there(module, name: str) -> bool:
    """Whether a name can be imported; one of an extra that is not installed says so itself."""
    try:
        return getattr(module, name) is not None
    except module.ConfigurationError:
        return False


def test_only_these_rooms_may_import_what_opens_sockets(modules):
    def opens_sockets(name: str) -> bool:
        return any(name == banned or name.startswith(f"{banned}.") for banned in NETWORK)

    found = [
        f"{module.name}: {name}"
        for module in modules
        if module.room not in MAY_OPEN_SOCKETS
        for name in [
            *filter(opens_sockets, module.imports()),
            *(text for text, _ in module.attributes() if text.rpartition(".")[2] in ASYNC_NETWORK),
        ]
    ]
    assert found == []


def test_the_verifier_never_imports_the_simulator(modules):
    found = [
        module.name
        for module in modules
        if module.room not in MAY_IMPORT_SIMULATOR
        and any(name.startswith("teeverify.simulator") for name in module.imports())
    ]
    assert found == []


def test_imports_are_absolute(modules):
    """Else the other tests of this file would not see them."""
    import ast

    found = [
        module.name
        for module in modules
        if any(isinstance(node, ast.ImportFrom) and node.level for node in module.nodes)
    ]
    assert found == []

"""Where the server listens, and what it calls that."""

from __future__ import annotations

import socket

import pytest

from teeverify.errors import ConfigurationError


@pytest.fixture(scope="module")
def module():
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    from teeverify.enclave import serve

    return serve


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 -- that nobody can connect to it is the point
        ("localhost", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ],
)
@pytest.mark.network
def test_the_url_is_one_that_a_client_of_this_machine_reaches(module, host, shown):
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with module.open_socket(host, 0) as listening:
        port = listening.getsockname()[1]
        assert module.url_of(listening) == f"http://{shown}:{port}/v1"


def _has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_port_in_use(module):
    with module.open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            module.open_socket("127.0.0.1", port)
    assert caught.value.id == "usage.serve"


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(module, port):
    with pytest.raises(ConfigurationError):
        module.open_socket("127.0.0.1", port)


def test_no_host(module):
    with pytest.raises(ConfigurationError):
        module.open_socket("x" * 300, 0)

"""The guard of tests/conftest.py really blocks: a guard that never fires proves nothing."""

from __future__ import annotations

import contextlib
import socket

import pytest

DOCUMENTATION_ADDRESS = ("192.0.2.1", 443)  # RFC 5737: never a real host


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection(DOCUMENTATION_ADDRESS),
        lambda: socket.create_connection(("localhost", 9)),
        lambda: socket.socket().connect_ex(DOCUMENTATION_ADDRESS),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", DOCUMENTATION_ADDRESS),
        lambda: socket.getaddrinfo("example.com", 443),
        lambda: socket.getaddrinfo(host="example.com", port=443),
        lambda: socket.gethostbyname("example.com"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_test_cannot_reach_anything(attempt):
    with (
        pytest.raises(pytest.fail.Exception, match="used the network"),
        contextlib.suppress(Exception),
    ):
        attempt()


@pytest.mark.network
def test_a_marked_test_reaches_this_machine():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()


@pytest.mark.network
def test_a_marked_test_reaches_nothing_else():
    with pytest.raises(pytest.fail.Exception, match="used the network"):
        socket.create_connection(DOCUMENTATION_ADDRESS)

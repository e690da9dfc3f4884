"""Fetching from endpoints that are slow, huge, or send one elsewhere."""

from __future__ import annotations

import gc
import socket
import threading
import time

import pytest

from teeverify.client.network.fetch import Get
from teeverify.client.network.fetch_httpx import AsyncHttpxFetch, HttpxFetch
from teeverify.client.network.fetch_requests import RequestsFetch
from teeverify.client.network.steps import Blocking, Looping, wait
from teeverify.endorsements.deadline import Deadline
from teeverify.errors import EndpointUnavailable, MalformedEvidence, TeeVerifyError

anyio = pytest.importorskip("anyio", reason="the extra 'openai' is not installed")
httpx2 = pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
SOON = 0.3


def blocking_httpx(trust_env):
    fetch = HttpxFetch(lambda: httpx2.Client(trust_env=trust_env))

    def once(get):
        try:
            return fetch(get)
        finally:
            fetch.close()

    return once


def looping_httpx(trust_env):
    async def once(get):
        async with httpx2.AsyncClient(trust_env=trust_env) as client:
            return await AsyncHttpxFetch(client)(get)

    return lambda get: anyio.run(once, get)


FETCHERS = {
    "requests": lambda trust_env=False: RequestsFetch(trust_env=trust_env),
    "httpx2": lambda trust_env=False: blocking_httpx(trust_env),
    "httpx2 in a loop": lambda trust_env=False: looping_httpx(trust_env),
}


@pytest.fixture(params=FETCHERS)
def fetcher(request):
    return FETCHERS[request.param]


@pytest.fixture
def serve():
    """A server that does with each connection what a test says."""
    stops = []

    def start(behave):
        listener = socket.create_server(("127.0.0.1", 0))
        ended = threading.Event()

        def work():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection):
            with connection:
                try:
                    connection.recv(65536)
                    behave(connection, ended)
                except OSError:
                    return

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        stops.append((listener, ended, thread))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener, ended, thread in stops:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2)


def get(address, *, scheme="http", cap=10_000, timeout=5, **more):
    return Get(url=f"{scheme}://{address}/x", what="report", cap=cap, timeout=timeout, **more)


def answer(body=b"{}", status=b"200 OK", headers=b"", length=None):
    size = len(body) if length is None else length
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (status, headers, size) + body


def drip(data, seconds=0.05):
    def behave(connection, ended):
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            if ended.wait(seconds):
                return

    return behave


def test_a_whole_answer(fetcher, serve):
    got = fetcher()(get(serve(lambda connection, _: connection.sendall(answer(b"[1]")))))
    assert (got.status, got.content_type, got.body) == (200, "application/json", b"[1]")


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection, ended: ended.wait(20),
        drip(b"H" * 10_000),
        drip(answer() + b"x" * 1000),
        drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000),
        drip(answer(b"x" * 10_000, length=10_000)),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5_000),
        drip(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000),
    ],
    ids=["silent", "no head", "slow head", "many headers", "slow body", "chunks", "no length"],
)
def test_the_deadline_holds_however_slowly_they_drip(fetcher, serve, behave):
    address = serve(behave)
    begun = time.monotonic()
    with pytest.raises(EndpointUnavailable) as refused:
        fetcher()(get(address, timeout=SOON))
    assert refused.value.id == "endpoint.timeout"
    assert time.monotonic() - begun < SOON * 4


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x03\x40\x00" + b"x" * 5_000])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_handshake_that_drips(fetcher, serve, data):
    """(A handshake that is cancelled in an event loop is left to the collector by anyio.)"""
    begun = time.monotonic()
    address = serve(drip(data) if data else lambda connection, ended: ended.wait(20))
    with pytest.raises(EndpointUnavailable):
        fetcher()(get(address, scheme="https", timeout=SOON))
    assert time.monotonic() - begun < SOON * 5
    gc.collect()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (answer(b"x" * 10_001), MalformedEvidence),
        (answer(b"x" * 100, length=10**12), EndpointUnavailable),
        (answer(length=10), EndpointUnavailable),
        (answer(headers=b"Content-Encoding: gzip\r\n"), EndpointUnavailable),
        (answer(headers=b"Content-Encoding: identity, gzip\r\n"), EndpointUnavailable),
        (answer(status=b"302 Found", headers=b"Location: /y\r\n"), EndpointUnavailable),
        (answer(status=b"301 Moved", headers=b"Location: file:///etc/passwd\r\n"),
         EndpointUnavailable),
        (b"", EndpointUnavailable),
        (b"not HTTP at all\r\n\r\n", EndpointUnavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", EndpointUnavailable),
    ],
)  # fmt: skip
def test_what_is_no_answer(fetcher, serve, data, error):
    def behave(connection, ended):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    with pytest.raises(error):
        fetcher()(get(serve(behave)))


def test_an_endless_body_is_cut_at_its_cap(fetcher, serve):
    def behave(connection, ended):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not ended.is_set():
            connection.sendall(b"x" * 65536)

    with pytest.raises(MalformedEvidence) as refused:
        fetcher()(get(serve(behave), timeout=10))
    assert refused.value.id == "endpoint.size"


def test_nobody_there(fetcher):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(EndpointUnavailable) as refused:
        fetcher()(get(address))
    assert refused.value.id == "endpoint.unreachable"
    assert "refused" in refused.value.got.lower()


def test_no_proxy_sees_what_stays_on_this_machine(fetcher, serve, monkeypatch):
    asked = []
    proxy = serve(lambda connection, _: asked.append(1))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{proxy}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    here = serve(lambda connection, _: connection.sendall(answer()))
    assert fetcher()(get(here)).status == 200
    assert asked == []


@pytest.mark.parametrize("trust_env", [False, True])
def test_no_password_of_the_environment_is_sent(fetcher, enclave, monkeypatch, tmp_path, trust_env):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetch = fetcher(trust_env=trust_env)
    fetch(get(f"127.0.0.1:{enclave.port}"))
    fetch(get(f"127.0.0.1:{enclave.port}", authorization="Bearer key"))
    assert [headers.get("authorization") for _, _, headers, _ in enclave.seen] == [
        None,
        "Bearer key",
    ]


def test_connections_are_used_again(enclave):
    fetch = HttpxFetch(lambda: httpx2.Client(trust_env=False))
    for _ in range(5):
        fetch(get(f"127.0.0.1:{enclave.port}"))
    assert len(enclave.open) == 1
    fetch.close()


def test_a_deadline_for_a_connection_that_comes_too_late():
    one, two = socket.socketpair()
    with one, two, Deadline(0.01) as deadline:
        while not deadline.expired:
            time.sleep(0.01)
        deadline.watch(one)
        assert two.recv(1) == b""


# --- steps ----------


def test_steps_are_told_what_failed():
    failure = EndpointUnavailable("x", id="x")

    def steps():
        yield get("0")
        with pytest.raises(EndpointUnavailable) as caught:
            yield get("1")
        yield wait(0.0)
        yield get("2")
        return caught.value is failure

    def fetch(asked):
        if asked.url.startswith("http://1"):
            raise failure

    async def fetch_in_a_loop(asked):
        return fetch(asked)

    assert Blocking(fetch).run(steps()) is True
    assert anyio.run(Looping(fetch_in_a_loop).run, steps()) is True


def test_what_steps_do_not_catch_is_raised():
    def steps():
        yield get("x")

    def fetch(asked):
        raise EndpointUnavailable("x", id="x")

    async def fetch_in_a_loop(asked):
        fetch(asked)

    with pytest.raises(TeeVerifyError):
        Blocking(fetch).run(steps())
    with pytest.raises(TeeVerifyError):
        anyio.run(Looping(fetch_in_a_loop).run, steps())


def test_a_certificate_that_nobody_vouches_for(fetcher, tmp_path):
    """The reason is named, and nothing is fetched all the same."""
    import ssl

    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    from teeverify.simulator.authority import Authority

    own = Authority.root("127.0.0.1")
    chain = tmp_path / "own.pem"
    key = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(own.pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    asked = []

    def serve_one(listener):
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                asked.append(secured.recv(1))
        except OSError:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_one, args=(listener,))
        thread.start()
        with pytest.raises(EndpointUnavailable) as refused:
            fetcher()(get(f"127.0.0.1:{listener.getsockname()[1]}", scheme="https"))
        thread.join()
    assert "certificate" in refused.value.got.lower()
    assert not any(asked)

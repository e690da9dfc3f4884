"""Where a client may go, and what of it is signed."""

from __future__ import annotations

import pytest

from teeverify.client.network.endpoint import Endpoint
from teeverify.errors import ConfigurationError
from teeverify.providers import DIALECTS

HERE = "https://enclave.example.com/v1"


def parse(url, dialect="dstack"):
    return Endpoint.parse(url, dialect=dialect)


@pytest.mark.parametrize(
    "url",
    [
        "http://enclave.example.com/v1",  # plain, and not this machine
        "http://127.0.0.1.example.com/v1",
        "http://127.1/v1",  # what resolvers make of it is not known
        "http://0.0.0.0/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "http://localhost.example.com/v1",
        "ftp://127.0.0.1/v1",
        "https://user:secret@enclave.example.com/v1",
        "https://enclave.example.com/v1?key=secret",
        "https://enclave.example.com/v1#part",
        "https://enclave.example.com",  # no routes there
        "https://enclave.example.com/api",
        "https://enclave.example.com/../v1",
        "https://enclave.example.com/%2e%2e/v1",
        "https://encl\u0430ve.example.com/v1",  # a Cyrillic letter
        "https://user:secret@[::1/v1",
        "https://enclave.example.com:99999/v1",
        "https://[::1/v1",
        "https:///v1",
        "https://enclave.example.com./v1",  # another name to whoever remembers endpoints
        "https://[0:0:0:0:0:0:0:1]/v1",
        "https://[2001:DB8:0::1]/v1",
        "127.0.0.1:8000/v1",
        "",
        None,
        7,
    ],
)
def test_a_wrong_address_is_refused(url):
    with pytest.raises(ConfigurationError) as refused:
        parse(url)
    assert refused.value.id == "usage.endpoint"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.99/v1",
        "http://localhost:1/v1",
        "http://[::1]/v1",
    ],
)
def test_plain_addresses_of_this_machine_use_no_proxy(url):
    assert not Endpoint.parse(url).trust_env
    assert Endpoint.parse(url).dialect.id == "teeverify/1"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://enclave.example.com/v1", HERE),
        ("https://ENCLAVE.example.com:443/v1/", HERE),
        ("https://enclave.example.com/a/b/v1", "https://enclave.example.com/a/b/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_has_one_form(url, base):
    assert parse(url).base_url == base


def test_a_host_that_nobody_knows_is_taken_for_our_own_server():
    assert Endpoint.parse(HERE).dialect.id == "teeverify/1"


@pytest.mark.parametrize("dialect", [d.id for d in DIALECTS.values() if not d.live])
def test_a_dialect_that_is_only_recorded_is_not_spoken(dialect):
    with pytest.raises(ConfigurationError, match="recordings"):
        parse(HERE, dialect)


def test_a_dialect_must_exist():
    with pytest.raises(ConfigurationError):
        parse(HERE, "dstakc")


def test_the_routes():
    endpoint = parse("https://enclave.example.com/base/v1")
    query = endpoint.report_query(bytes(32), "a/b c")
    assert endpoint.report_url(query) == (
        "https://enclave.example.com/base/v1/attestation/report"
        f"?model=a%2Fb+c&nonce={'00' * 32}&signing_algo=ecdsa"
    )
    assert endpoint.signature_url("chatcmpl-1", None).endswith(
        "/base/v1/signature/chatcmpl-1?signing_algo=ecdsa"
    )


@pytest.mark.parametrize("name", ["../../admin", "a/b", "a?b=c", "a#b", "a b", "%2e%2e", "\n", "é"])
def test_an_id_stays_one_part_of_the_path(name):
    """The id comes out of an answer that nobody has verified yet."""
    url = parse(HERE).signature_url(name, "m")
    path, _, query = url.partition("?")
    assert path.startswith(f"{HERE}/signature/")
    assert path.count("/") == HERE.count("/") + 2
    assert query == "model=m&signing_algo=ecdsa"
    assert path.isascii()
    assert path.isprintable()


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/chat/completions", "signed"),
        ("POST", "/completions", "signed"),
        ("POST", "/chat/completions?x=y", "signed"),
        ("GET", "/models", "open"),
        ("GET", "/models/a%2Fb", "open"),
    ],
)
def test_routes_that_are_known(method, path, route):
    assert parse(HERE).route(method, HERE + path) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/chat/completions/chatcmpl-1"),  # a stored answer, unsigned
        ("GET", "/responses/1"),
        ("POST", "/responses"),
        ("POST", "/files"),
        ("GET", "/files/1/content"),
        ("DELETE", "/models/x"),
        ("POST", "/models"),
        ("GET", "/models/../files/1/content"),
        ("GET", "/models/%2E%2e/files"),
        ("GET", "/modelsx"),
        ("POST", "/chat/completions/"),
        ("POST", "/CHAT/completions"),
    ],
)
def test_routes_whose_answers_nobody_signs_are_refused(method, path):
    with pytest.raises(ConfigurationError) as refused:
        parse(HERE).route(method, HERE + path)
    assert refused.value.id == "usage.route"


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.com/v1/chat/completions",
        "http://enclave.example.com/v1/chat/completions",
        "https://enclave.example.com:8443/v1/chat/completions",
        "https://enclave.example.com/v2/chat/completions",
        "https://enclave.example.com/v1",
        "https://enclave.example.com.evil.example/v1/chat/completions",
        "https://enclave.example.com@evil.example/v1/chat/completions",
    ],
)
def test_other_places_are_refused(url):
    with pytest.raises(ConfigurationError) as refused:
        parse(HERE).route("POST", url)
    assert refused.value.id == "usage.endpoint"

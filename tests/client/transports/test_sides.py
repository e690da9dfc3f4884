"""Side doors: every public callable of the SDK's clients answers verified, or sends nothing."""

from __future__ import annotations

import functools
import inspect
import warnings

import pytest

import teeverify
from teeverify import ConfigurationError

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
anyio = pytest.importorskip("anyio")
pytestmark = [pytest.mark.network, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
# Of the client itself: what sends. Everything else of it only makes and describes.
SENDS = ("get", "post", "put", "patch", "delete", "get_api_list", "request")
# Waits for what an earlier call must have made; that one raises.
NEEDS_A_BODY = {"messages": [], "model": "default", "input": "x", "prompt": "x"}
MOST_DEPTH = 6


def resources(client):
    """Every object under a client that has methods, by dotted name."""
    found, queue = {}, [("", client)]
    while queue:
        name, thing = queue.pop()
        for attribute in dir(type(thing)):
            if attribute.startswith("_") or name.count(".") >= MOST_DEPTH:
                continue
            kind = inspect.getattr_static(type(thing), attribute)
            if not isinstance(kind, (property, functools.cached_property)):
                continue
            module = "openai"
            try:
                value = getattr(thing, attribute)
            except Exception:  # noqa: BLE001, S112 -- a property that needs a setting
                continue
            if type(value).__module__.startswith(f"{module}.resources"):
                path = f"{name}.{attribute}" if name else attribute
                found[path] = value
                queue.append((path, value))
    return found


def methods(client):
    """Every public callable that may send, by dotted name."""
    for path, thing in resources(client).items():
        for attribute in dir(thing):
            if attribute.startswith("_"):
                continue
            try:
                value = getattr(thing, attribute)
            except Exception:  # noqa: BLE001, S112 -- a property that needs a setting
                continue
            if callable(value) and not type(value).__module__.startswith("openai.resources"):
                yield f"{path}.{attribute}", value
    for attribute in SENDS:
        yield attribute, getattr(client, attribute)


def arguments(call):
    """Something for every argument that must be given."""
    given = {}
    try:
        parameters = inspect.signature(call).parameters.values()
    except ValueError:
        return given
    for parameter in parameters:
        needed = parameter.default is parameter.empty or parameter.name in NEEDS_A_BODY
        if not needed or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.name in ("cast_to", "page", "text_format", "response_format"):
            given[parameter.name] = object
        elif parameter.name in ("file", "image", "audio", "data", "media"):
            given[parameter.name] = b"canary"
        elif parameter.name == "options":
            given[parameter.name] = openai._models.FinalRequestOptions.construct(
                method="post", url="/x"
            )
        else:
            given[parameter.name] = NEEDS_A_BODY.get(parameter.name, "canary")
    return given


def allowed(enclave):
    """The only routes that anything may go to, and those with answers that carry signatures."""
    for method, path, _, _ in enclave.seen:
        route = path.partition("?")[0].removeprefix("/v1")
        first = f"/{route.split('/')[1]}"
        assert (method, first) in {
            ("GET", "/models"), ("GET", "/attestation"), ("GET", "/signature"),
            ("POST", "/chat"), ("POST", "/completions"),
        }, f"{method} {route} was sent"  # fmt: skip
        assert route != "/chat/completions/canary"


def tally(outcomes):
    return {kind: sum(1 for one in outcomes.values() if one == kind) for kind in
            set(outcomes.values())}  # fmt: skip


def outcome_of(error):
    return "refused" if isinstance(error, ConfigurationError) else "raised"


def check(outcomes, receipts, enclave):
    """Most are refused by us; whatever was answered has a receipt, or is open."""
    allowed(enclave)
    counted = tally(outcomes)
    assert counted["refused"] > 200, counted
    answered = {name for name, kind in outcomes.items() if kind == "answered"}
    left = {name for name in answered if name.endswith(".stream")}  # entered, and left early
    signed = {name for name in answered - left if "completions" in name}
    unsigned = answered - signed - left
    assert {name.split(".")[0] for name in unsigned} <= {"models"}, unsigned
    assert len(receipts) >= len(signed) > 0


def test_every_callable_of_the_blocking_client(enclave, openai_client):
    client = openai_client(max_retries=0)
    outcomes = {}
    for name, call in methods(client):
        try:
            value = call(**arguments(call))
            if hasattr(value, "__enter__") and hasattr(value, "__exit__"):
                with value as entered:
                    del entered
            if inspect.isgenerator(value):
                next(value)
            outcomes[name] = "answered"
        except Exception as error:  # noqa: BLE001, PERF203 -- whatever it is, nothing was sent
            outcomes[name] = outcome_of(error)
    check(outcomes, client.receipts, enclave)


def test_every_callable_of_the_clients_for_loops(enclave, roots):
    async def main():
        async with teeverify.AsyncOpenAI(
            base_url=enclave.url, api_key="sk-canary", roots=roots, max_retries=0
        ) as client:
            outcomes = {}
            for name, call in methods(client):
                try:
                    value = call(**arguments(call))
                    if inspect.isawaitable(value):
                        value = await value
                    if hasattr(value, "__aenter__"):
                        async with value as entered:
                            del entered
                    outcomes[name] = "answered"
                except Exception as error:  # noqa: BLE001, PERF203 -- whatever it is, nothing was sent
                    outcomes[name] = outcome_of(error)
            return outcomes, client.receipts

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes, receipts = anyio.run(main)
    check(outcomes, receipts, enclave)


def test_other_ways_of_a_client(enclave, openai_client):
    httpx2 = pytest.importorskip("httpx2")
    client = openai_client()
    with httpx2.Client() as other:
        for change in (
            {"http_client": other},
            {"base_url": "http://127.0.0.1:1/v1"},
        ):
            for copy in (client.with_options, client.copy):
                with pytest.raises(ConfigurationError):
                    copy(**change)
    with pytest.raises(ConfigurationError):
        openai_client(http_client=httpx2.Client())
    client.base_url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigurationError):
        client.chat.completions.create(model="default", messages=[])
    assert enclave.seen == []


def test_the_socket_guard_sees_no_other_connection(enclave, openai_client, monkeypatch):
    """Whatever is called, no address but the endpoint's is connected to."""
    import socket

    addresses = set()
    connect = socket.socket.connect

    def noted(self, address):
        addresses.add(address[1])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    client = openai_client(max_retries=0)
    for _, call in methods(client):
        try:
            call(**arguments(call))
        except Exception:  # noqa: BLE001, PERF203, S112
            continue
    assert addresses == {enclave.port}

"""The store that replicas share, on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import time

import pytest

from teeverify.enclave.store import AlreadyStored, SignatureRecord, StoreError
from teeverify.errors import ConfigurationError

from .wire import CHAT, ID, chat_body, connected, processes_of, said_of, stated, verified

pytestmark = [pytest.mark.network, pytest.mark.redis]


class Redis:
    """A server that can be stopped and started."""

    def __init__(self, folder, *arguments):
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket)]
        self._command += ["--dir", str(folder), "--save", "", "--appendonly", "yes", *arguments]
        self._process = None

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _answers(self):
        done = subprocess.run(
            ["redis-cli", "-s", str(self.socket), "ping"], capture_output=True, check=False
        )
        return done.stdout == b"PONG\n"

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start_redis(tmp_path, need):
    pytest.importorskip("redis", reason="the extra 'redis' is not installed")
    if shutil.which("redis-server") is None:
        need("redis", "there is no redis-server here")
    running = []

    def start(*arguments):
        found = Redis(tmp_path, *arguments)
        found.start()
        running.append(found)
        return found

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def store_of():
    """Runs something with a store of its own, in one event loop."""

    def run(redis, action, **options):
        from teeverify.enclave.redis_store import RedisStore

        async def with_store():
            store = RedisStore(redis.url, **options)
            try:
                return await action(store)
            finally:
                await store.aclose()

        return asyncio.run(with_store())

    return run


def records(answer_id, text="t"):
    return [
        SignatureRecord(id=answer_id, kind=kind, body=f'{{"text":"{text} {kind}"}}'.encode())
        for kind in ("dstack/ecdsa", "dstack/ed25519")
    ]


def test_what_was_put_can_be_got_until_it_is_withdrawn(start_redis, store_of):
    async def go(store):
        await store.start()
        await store.ready()
        await store.put(records("x"))
        assert await store.get("x", "dstack/ed25519") == b'{"text":"t dstack/ed25519"}'
        assert await store.get("x", "near/ecdsa") is None
        assert await store.get("y", "dstack/ecdsa") is None
        await store.withdraw("x")
        assert await store.get("x", "dstack/ecdsa") is None

    store_of(start_redis(), go)


def test_nothing_is_overwritten(start_redis, store_of):
    async def go(store):
        await store.put(records("x"))
        with pytest.raises(AlreadyStored):
            await store.put(records("x", "other"))
        assert b'"t ' in await store.get("x", "dstack/ecdsa")

    store_of(start_redis(), go)


def test_it_is_gone_when_its_time_is_up(start_redis, store_of):
    async def go(store):
        await store.put(records("x"))
        assert await store.get("x", "dstack/ecdsa")
        await asyncio.sleep(1.2)
        assert await store.get("x", "dstack/ecdsa") is None

    store_of(start_redis(), go, ttl_seconds=1)


def test_a_redis_that_evicts_is_refused(start_redis, store_of):
    redis = start_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")

    async def go(store):
        with pytest.raises(ConfigurationError, match="noeviction"):
            await store.start()
        with pytest.raises(StoreError):
            await store.ready()

    store_of(redis, go)


def test_a_full_redis_says_so_before_the_engine_is_asked(start_redis, store_of):
    redis = start_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")

    async def go(store):
        with pytest.raises(StoreError, match="full"):
            await store.ready()

    store_of(redis, go)


def test_a_redis_that_is_not_there(tmp_path, store_of, start_redis):
    redis = start_redis()
    redis.stop()

    async def go(store):
        with pytest.raises(ConfigurationError):
            await store.start()
        for action in (store.put(records("x")), store.get("x", "k"), store.withdraw("x")):
            with pytest.raises(StoreError) as caught:
                await action
            assert str(tmp_path) not in str(caught.value)

    store_of(redis, go)


@pytest.mark.parametrize("url", ["redis://host:port", "redis://[::1", "redis://u:canary@h:x/0"])
def test_no_address(url):
    pytest.importorskip("redis", reason="the extra 'redis' is not installed")
    from teeverify.enclave.redis_store import RedisStore

    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)
    assert "canary" not in str(caught.value)


# --- servers -------------------------------------------------------------------------------------


def chat(url, *, stream=True):
    return asyncio.run(verified(url, chat_body(stream=stream, max_tokens=8), stream=stream))


def fetch(url, path, body=b""):
    async def go():
        async with connected(url) as wire:
            return await wire.fetch("POST" if body else "GET", path, body)

    return asyncio.run(go())


def test_two_replicas_one_restarted(start_redis, serve):
    """Each has keys of its own; each serves the signatures of both, also of one that is gone."""
    arguments = ("--store", start_redis().url)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(serve(gpus=1, arguments=arguments))
        with serve(gpus=1, arguments=arguments) as two:
            made = [chat(one.url), chat(two.url)]
            assert made[0][1] != made[1][1], "two instances, two keys"
            for url in (one.url, two.url):
                for answer_id, _ in made:
                    assert fetch(url, f"/v1/signature/{answer_id}")[0] == 200
        two = stack.enter_context(serve(gpus=1, arguments=arguments))
        made.append(chat(two.url))
        assert len({signer for _, signer in made}) == 3, "restarted, it has new keys"
        for answer_id, _ in made:
            assert fetch(one.url, f"/v1/signature/{answer_id}")[0] == 200
            assert fetch(two.url, f"/v1/signature/{answer_id}")[0] == 200


def test_two_replicas_in_our_own_dialect_one_restarted(start_redis, serve):
    """Each statement verifies under its own instance's evidence, wherever it is had."""
    arguments = ("--store", start_redis().url, "--dialect", "teeverify/1")

    def ask(server, *, stream):
        processes = processes_of(server)
        body = chat_body(stream=stream, max_tokens=8)
        return processes[0], asyncio.run(stated(server.url, processes, body, stream=stream))[0]

    def check(servers, made):
        for server in servers:
            for process, name in made:
                signed = asyncio.run(said_of(server.url, name))
                signed.verify(process.keys)
                assert signed.statement.instance == process.instance

    with serve(gpus=1, arguments=arguments) as one:
        with serve(gpus=1, arguments=arguments) as two:
            made = [ask(one, stream=True), ask(two, stream=False)]
            check((one, two), made)
        with serve(gpus=1, arguments=arguments) as two:
            made.append(ask(two, stream=True))
            check((one, two), made)
    assert len({process.instance for process, _ in made}) == 3, "restarted, it is another instance"


def test_a_redis_that_stops_and_comes_back(start_redis, serve):
    redis = start_redis()
    body = chat_body(stream=False, max_tokens=4)
    with serve(gpus=1, arguments=("--store", redis.url)) as server:
        answer_id, signer = chat(server.url)
        redis.stop()
        status, answer = fetch(server.url, CHAT, body)
        assert (status, ID.search(answer)) == (503, None)
        status, answer = fetch(server.url, CHAT, body)
        assert (status, ID.search(answer)) == (503, None)
        assert fetch(server.url, f"/v1/signature/{answer_id}")[0] == 503
        assert re.search(rb"store_failures_total [1-9]", fetch(server.url, "/metrics")[1])
        redis.start()
        assert chat(server.url)[1] == signer
        assert fetch(server.url, f"/v1/signature/{answer_id}")[0] == 200, "it had been written down"


def test_a_redis_that_stops_in_mid_stream(start_redis, serve):
    redis = start_redis()

    async def go(url):
        async with connected(url) as wire:
            await wire.send("POST", CHAT, chat_body(stream=True, max_tokens=800, ignore_eos=True))
            assert await wire.head() == 200
            await wire.part()
            redis.stop()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await wire.until(b"data: [DONE]\n\n")

    with serve(gpus=1, arguments=("--store", redis.url)) as server:
        asyncio.run(go(server.url))


def test_a_server_does_not_start_without_its_redis(tmp_path, serve):
    pytest.importorskip("redis", reason="the extra 'redis' is not installed")
    arguments = ("--store", f"unix://{tmp_path}/none.sock")
    with (
        pytest.raises(ConfigurationError, match="does not answer"),
        serve(gpus=1, arguments=arguments),
    ):
        pass

"""The wire format of the field's dialects on our server, by the cases of tests/conformance."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
from pathlib import Path

import pytest

from teeverify.crypto.ethereum import checksum_address
from teeverify.responses.signed_text import parse_signature, verify_signed_text

from .wire import CHAT, ENDS, ID, chat_body, connected

pytestmark = pytest.mark.network

FOLDER = Path(__file__).resolve().parent.parent / "conformance"
DIALECTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
CASES = [
    pytest.param(name, case, id=f"{name}: {case['name']}")
    for name, file in DIALECTS.items()
    for case in file["cases"]
]
KINDS = {"<text>": str, "<list>": list, "<object>": dict, "<any>": object}
ADDRESS = re.compile("0x[0-9A-Fa-f]{40}")


@pytest.fixture(scope="module")
def spoken(serve):
    """A server of each dialect, with one streamed and one plain answer made."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in DIALECTS:
            server = stack.enter_context(serve(gpus=1, arguments=("--dialect", name)))
            found[name] = Spoken(server)
        yield found


class Spoken:
    def __init__(self, server):
        self.url = server.url
        self.body = chat_body(stream=True, max_tokens=5)
        self.answer = asyncio.run(self._chat())
        self.id = ID.search(self.answer)[1].decode()
        report = self.get(f"/v1/attestation/report?nonce={'0b' * 32}")[1]
        self.address = report["signing_address"]

    async def _chat(self):
        async with connected(self.url) as wire:
            await wire.send("POST", CHAT, self.body)
            assert await wire.head() == 200
            return await wire.until(ENDS[CHAT])

    def get(self, path):
        async def fetch():
            async with connected(self.url) as wire:
                return await wire.fetch("GET", path)

        status, raw = asyncio.run(fetch())
        return status, json.loads(raw)


def differences(got, want, nonce, place="$"):
    """Where an answer is not what a case says."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{place}: no object"]
        return [
            one
            for name, value in want.items()
            for one in (
                differences(got[name], value, nonce, f"{place}.{name}")
                if name in got
                else [f"{place}.{name}: absent"]
            )
        ]
    if isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            return [f"{place}: no list of {len(want)}"]
        pairs = enumerate(zip(got, want, strict=True))
        return [d for at, (a, b) in pairs for d in differences(a, b, nonce, f"{place}[{at}]")]
    return [] if _is(got, want, nonce) else [f"{place}: got {str(got)[:100]!r}, want {want!r}"]


def _is(got, want, nonce):
    if not isinstance(want, str):
        return got == want
    if want in KINDS:
        return isinstance(got, KINDS[want])
    if want == "<address lower>":
        return bool(ADDRESS.fullmatch(got)) and got == got.lower()
    if want == "<address checksum>":
        return bool(ADDRESS.fullmatch(got)) and got == checksum_address(bytes.fromhex(got[2:]))
    if want == "<nonce>":
        return got == nonce
    pattern = re.escape(want).replace(r"<hex>", "[0-9a-f]+")
    pattern = re.sub(r"<hex\\ (\d+)>", r"[0-9a-f]{\1}", pattern)
    return isinstance(got, str) and re.fullmatch(pattern, got) is not None


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_case(spoken, name, case):
    server = spoken[name]
    nonce = secrets.token_hex(32)
    path = case["get"].replace("<nonce>", nonce).replace("<id>", server.id)
    status, got = server.get(path.replace("<own address>", server.address))
    assert status == case["status"], got
    assert differences(got, case["json"], nonce) == []


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_signed_verifies(spoken, name):
    server = spoken[name]
    _, signature = server.get(f"/v1/signature/{server.id}")
    signed = parse_signature(json.dumps(signature))
    assert str(verify_signed_text(signed)).lower() == server.address.lower()
    assert signed.request_sha256 == hashlib.sha256(server.body).hexdigest()
    assert signed.response_sha256 == hashlib.sha256(server.answer).hexdigest()
    assert signed.text.startswith("default:") is (name == "near")


def test_several_dialects_have_keys_of_their_own(serve):
    arguments = [word for name in ("dstack", "near", "phala") for word in ("--dialect", name)]
    with serve(gpus=1, arguments=tuple(arguments)) as started:
        server = Spoken(started)
        addresses = set()
        for name in ("dstack", "near", "phala"):
            for algorithm in ("ecdsa", "ed25519"):
                query = f"dialect={name}&signing_algo={algorithm}"
                _, report = server.get(f"/v1/attestation/report?nonce={'0c' * 32}&{query}")
                _, signature = server.get(f"/v1/signature/{server.id}?{query}")
                assert signature["signing_address"] == report["signing_address"]
                addresses.add(report["signing_address"].lower())
        assert len(addresses) == 6
        assert server.get(f"/v1/signature/{server.id}?dialect=venice")[0] == 400


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ({}, {"a": 1}),
        ({"a": "AB"}, {"a": "<hex 2>"}),
        ({"a": "abc"}, {"a": "<hex 2>"}),
        ({"a": []}, {"a": ["<text>"]}),
        ({"a": "0x" + "aB" * 20}, {"a": "<address checksum>"}),
        ({"a": "0x" + "AB" * 20}, {"a": "<address lower>"}),
        ({"a": "00"}, {"a": "<nonce>"}),
        ([], {"a": 1}),
    ],
)
def test_the_comparison_can_fail(got, want):
    assert differences(got, want, "11")

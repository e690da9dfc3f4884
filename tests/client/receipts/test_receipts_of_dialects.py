"""A receipt in every dialect that gives one: there and back, then and now, with a part changed."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import threading
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from teeverify import Policy, Receipt, ReferenceValues, TeeVerifyError, nvidia, snp, tdx
from teeverify.appraisal.reference import CodeReference
from teeverify.client import Verifier
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch import Got
from teeverify.client.network.steps import Blocking
from teeverify.client.session.core import SessionCore
from teeverify.client.session.exchange import Exchange
from teeverify.clock import now
from teeverify.providers import DIALECTS
from teeverify.responses.receipt import Http
from teeverify.simulator.amd import AmdKeys
from teeverify.simulator.channels import CHUTE, MODEL, Channels
from teeverify.simulator.endpoint import Endpoint as Simulated
from teeverify.testing.server import running

pytestmark = pytest.mark.network  # of our own server
# Some of these machines show no GPU, and nilCC asks for its report at another privilege level.
POLICY = Policy.genuine().replace(gpu={"required": False}, snp={"vmpls": ["0", "1"]})
SIGNED = {
    "near": lambda s: s.near_report(),
    "near-direct": lambda s: s.near_report()["model_attestations"][0],
    "venice": lambda s: s.venice_report(),
    "phala": lambda s: s.model_report(),
    "nanogpt": lambda s: s.model_report(),
    "0g": lambda s: s.model_report(),
    "dstack": lambda s: s.model_report(),
}
CHANNELS = ("chutes", "tinfoil", "tinfoil-v2", "secretvm", "morpheus", "nilcc")
OWN = "teeverify/1"
REQUEST, ANSWER = Simulated.request(), b'{"id": "chatcmpl-1", "choices": []}'


def test_every_live_dialect_is_here():
    live = {dialect.id for dialect in DIALECTS.values() if dialect.live}
    assert live == {*SIGNED, *CHANNELS, OWN}


def of_nvidia(vendor):
    """Its manifests, and its word that the first GPU is not revoked."""
    return nvidia.Endorsements(
        rims=tuple(nvidia.RimFile(id=name, xml=xml) for name, xml in vendor.rims().items()),
        ocsp=tuple(vendor.ocsp_answers(now(), vendor.gpu(0))),
    )


class Made:
    """A receipt as a session made it, and what its reader needs."""

    def __init__(self, receipt, roots, today) -> None:
        self.receipt, self.roots, self.today = receipt, roots, today
        self.value = json.loads(receipt.to_bytes(include="bytes"))

    def read(self, value=None, **options):
        """What a reader finds, who was not there; whether it satisfies him or not."""
        raw = json.dumps(self.value if value is None else value).encode()
        try:
            options = {"policy": POLICY, "roots": self.roots, **options}
            return Receipt.load(raw).verify(**options)
        except TeeVerifyError as error:
            return error


class Answers:
    """Answers every question of a session as the dialect's machine would."""

    def __init__(self, body, peer) -> None:
        self.body, self.peer = body, peer

    def __call__(self, get):
        url = urlsplit(get.url)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        body = self.body(url.path, query)
        return Got(status=200, content_type="application/json", body=body, peer=self.peer)


def session(dialect, host, model, verifier, answers):
    """A session with such a machine, and its attestation."""
    root = DIALECTS[dialect].root
    core = SessionCore(
        verifier,
        Endpoint.parse(f"https://{host}{root}", dialect=dialect),
        model=model,
        timeout=5,
        lock=threading.Lock(),
    )
    return core, Blocking(answers).run(core.ensure())


@pytest.fixture(scope="module")
def signed():
    """Receipts of signed answers, by dialect."""
    made = {}

    def make(dialect):
        if dialect not in made:
            made[dialect] = _signed(dialect)
        return made[dialect]

    return make


def _signed(dialect):
    machine = Simulated(at=now(), gpus=1)

    def body(path, query):
        assert "attestation" in path
        machine.nonce = bytes.fromhex(query["nonce"])
        return json.dumps(SIGNED[dialect](machine)).encode()

    name = "e2ee-tiny" if dialect == "venice" else "simulated/tiny-1"
    front = machine.gateway if dialect == "near" else machine.model
    given = [
        tdx.Endorsements.load(json.dumps(machine.intel.collateral())),
        of_nvidia(machine.nvidia),
    ]
    verifier = Verifier(policy=POLICY, roots=machine.roots(), endorsements=given)
    answers = Answers(body, front.tls_fingerprint)
    core, under = session(dialect, "localhost", name, verifier, answers)
    answer = machine.answer()
    exchange = Exchange(
        request=REQUEST,
        response=answer,
        received_at=now(),
        signature=machine.sign(REQUEST, answer, model=None if dialect == "0g" else MODEL),
        http=Http(method="POST", target="/v1/chat/completions", status=200),
    )
    receipt = Blocking(answers).run(core.verify(exchange, under))
    return Made(receipt, machine.roots(), given)


@pytest.fixture(scope="module")
def machine():
    return Channels(at=now(), gpus=1, amd_keys=AmdKeys.new())


@pytest.fixture(scope="module")
def noted(machine):
    """Notes of answers that only a channel authenticated, by dialect."""
    made = {}

    def make(dialect):
        if dialect not in made:
            made[dialect] = _noted(machine, dialect)
        return made[dialect]

    return make


def _noted(machine, dialect):
    with pytest.MonkeyPatch.context() as patch:
        # The instances' keys are listed before the nonce is known that their evidence answers.
        same = SimpleNamespace(token_bytes=lambda size: b"\7" * size)
        patch.setattr("teeverify.simulator.channels.secrets", same)

        def body(path, query):
            if "nonce" in query:
                machine.nonce = bytes.fromhex(query["nonce"])
            return _shown(machine, dialect, path)

        amd = (machine.amd.vcek, machine.amd.chain_pem(), machine.amd.crl())
        given = [
            tdx.Endorsements.load(json.dumps(machine.intel.collateral())),
            snp.Endorsements.union(*map(snp.Endorsements.load, amd)),
            of_nvidia(machine.nvidia),
        ]
        verifier = Verifier(policy=POLICY, roots=machine.roots(), endorsements=given)
        answers = Answers(body, None if dialect == "chutes" else machine.fingerprint)
        core, under = session(dialect, "localhost", "tiny", verifier, answers)
    exchange = Exchange(request=REQUEST, response=ANSWER, received_at=now())
    return Made(core.note(exchange, under), machine.roots(), given)


def _shown(machine, dialect, path):
    if path == "/v1/models":
        return json.dumps({"data": [{"id": "tiny", "chute_id": CHUTE}]}).encode()
    makers = {
        "chutes": lambda: machine.chutes(1),
        "tinfoil": machine.tinfoil,
        "tinfoil-v2": machine.tinfoil_v2,
        "nilcc": machine.nilcc,
    }
    shown = makers.get(dialect, machine.secretvm)().exchanges
    second = path in ("/gpu", "/.well-known/hpke-keys") or "/instances/" in path
    return shown[1 if second else 0].body


@pytest.fixture(scope="module")
def own():
    """Of our own server."""
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    pytest.importorskip("starlette", reason="the extra 'server' is not installed")
    with (
        running(gpus=1, arguments=("--dialect", OWN)) as server,
        server.openai(dialect=OWN) as client,
    ):
        message = {"role": "user", "content": "Hi"}
        client.chat.completions.create(model="default", max_tokens=4, messages=[message])
        return Made(client.receipts.last, server.roots, ())


@pytest.fixture(params=[*SIGNED, OWN])
def of_answer(request, signed):
    """A receipt whose answer the machine signed."""
    if request.param == OWN:
        return request.getfixturevalue("own")
    return signed(request.param)


@pytest.fixture(params=CHANNELS)
def note(request, noted):
    return noted(request.param)


def parts_of(value):
    """Where ``core`` names a part."""

    def walk(node, path):
        if isinstance(node, str) and node in value["attachments"]:
            yield path
        elif isinstance(node, (dict, list)):
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            for name, member in pairs:
                yield from walk(member, (*path, name))

    return list(walk(value["core"], ()))


def heart(raw):
    """A place in the longest piece of text without a break: in evidence, that is a signed one."""
    longest = max(re.finditer(rb"[0-9A-Za-z+/=_-]+", raw), key=lambda found: len(found[0]))
    start, end = longest.span() if len(longest[0]) > 1000 else (0, len(raw))
    return (start + end) // 2


def spoilt(value, path):
    """The forger's: one byte of a part is another, and all hashes are right again."""
    result = copy.deepcopy(value)
    owner = result["core"]
    for name in path[:-1]:
        owner = owner[name]
    raw = bytearray(base64.b64decode(result["attachments"].pop(owner[path[-1]])))
    raw[heart(raw)] ^= 1
    owner[path[-1]] = hashlib.sha256(raw).hexdigest()
    result["attachments"][owner[path[-1]]] = base64.b64encode(raw).decode()
    text = json.dumps(result["core"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {**result, "receipt_id": hashlib.sha256(text.encode()).hexdigest()}


def outcomes(result):
    return {f.id: f.outcome.value for f in result.findings}


# --- signed answers ----------


def test_there_and_back(of_answer):
    again = Receipt.load(of_answer.receipt.to_bytes(include="bytes"))
    assert again.parts.digest == of_answer.receipt.parts.digest
    result = of_answer.read()
    assert result.satisfied
    assert result.scope == "answer"
    assert result.signer == of_answer.receipt.result.signer
    assert outcomes(result)["receipt.time"] == "asserted"


def test_now(of_answer):
    """Compared with today's lists, nothing was revoked since."""
    assert outcomes(of_answer.read())["receipt.since"] == "absent"
    if of_answer.today:
        found = outcomes(of_answer.read(endorsements=tuple(of_answer.today)))
        assert found["receipt.since"] == "proven"


def test_under_another_policy(of_answer):
    assert of_answer.read(policy="strict").exit_code == 1
    other = CodeReference(name="other", source="release", registers={"mr_td": ("ab" * 48,)})
    policy = replace(POLICY, references=ReferenceValues(entries=(other,)))
    refused = of_answer.read(policy=policy)
    assert (refused.exit_code, refused.id) == (1, "code.identity")


def test_under_other_roots(of_answer):
    assert of_answer.read(roots=None).exit_code == 2


def test_a_byte_of_each_part(of_answer):
    paths = parts_of(of_answer.value)
    assert len(paths) >= 4, "report, request, answer, signature"
    good = outcomes(of_answer.read())
    for path in paths:
        found = of_answer.read(spoilt(of_answer.value, path))
        if path[:2] == ("endorsements", "ocsp"):  # of which genuine only warns
            assert outcomes(found) != good
        else:
            assert isinstance(found, TeeVerifyError), path


# --- notes of channels ----------


def test_a_note_verifies_the_attestation_and_never_the_answer(note):
    refused = note.read()
    assert (refused.id, refused.exit_code) == ("answer.signature", 1)
    assert "only the one who was there knows" in str(refused)
    seen, made = outcomes(refused.result), outcomes(note.receipt.result)
    kept = {name for name, outcome in made.items() if outcome == "proven"}
    # What only the one who was there knows: when, to whom, and what he asked for.
    assert {name for name in kept if seen.get(name) != "proven"} <= {
        "clock.behind", "confidential.answer", "confidential.request", "endpoint.bound",
        "freshness.nonce", "model.requested", "time",
    }  # fmt: skip


def test_a_byte_of_each_part_of_a_note(note):
    """Request and answer are the holder's word; the rest is signed by somebody."""
    good = outcomes(note.read().result)
    for path in parts_of(note.value):
        if path[0] == "answer" or (note.receipt.parts.dialect, path[-1]) == ("morpheus", "gpu"):
            continue
        found = note.read(spoilt(note.value, path))
        if path[:2] == ("endorsements", "ocsp"):
            assert outcomes(found.result) != good
        else:
            assert found.exit_code in (2, 3), path


def test_a_note_of_another_connection(note):
    value = copy.deepcopy(note.value)
    place = value["core"]["attestation"]
    if place["peer_spki_sha256"] is None:
        pytest.skip("the connection of this dialect ends at a front")
    place["peer_spki_sha256"] = "ab" * 32
    text = json.dumps(value["core"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value["receipt_id"] = hashlib.sha256(text.encode()).hexdigest()
    assert note.read(value).exit_code == 2

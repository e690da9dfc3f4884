"""The contract of examples/dapp on a local EVM: digest and ``ecrecover`` agree with the client's.

Needs solc (``npm install --no-package-lock --prefix examples/dapp``), eth-tester and py-evm.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from teeverify import Verifier, tdx
from teeverify.appraisal.observation import Outcome
from teeverify.binding.teeverify1 import challenge_of
from teeverify.crypto.ethereum import checksum_address, recover_address
from teeverify.responses.statement import parse_signed, parse_statement, read_header
from teeverify.testing.server import running

from . import second
from .conftest import Server, question
from .test_bytes import STATEMENTS

REQUEST = question()


@pytest.fixture(scope="module")
def contracts(need):
    folder = Path(__file__).resolve().parents[2] / "examples/dapp"
    if shutil.which("node") is None or not (folder / "node_modules/solc").is_dir():
        need("dapp", "solc is not installed (npm install --prefix examples/dapp)")
    done = subprocess.run(
        ["node", folder / "compile.js"], capture_output=True, check=True, timeout=120
    )
    output = json.loads(done.stdout)
    assert not output.get("errors")
    return {name: found for file in output["contracts"].values() for name, found in file.items()}


class Chain:
    """A local chain, spoken to through eth-tester and eth-abi."""

    def __init__(self, tester):
        self.tester = tester
        self.owner, self.other = tester.get_accounts()[:2]

    def deploy(self, compiled, *arguments):
        code = "0x" + compiled["evm"]["bytecode"]["object"]
        made = next((one for one in compiled["abi"] if one["type"] == "constructor"), None)
        if made is not None:
            code += _encode(made["inputs"], arguments).hex()
        sent = {"from": self.owner, "data": code, "gas": 6_000_000}
        receipt = self.tester.get_transaction_receipt(self.tester.send_transaction(sent))
        return receipt["contract_address"]

    def call(self, compiled, address, name, *arguments, write=False, sender=None):
        from eth_abi import decode

        (form,) = (one for one in compiled["abi"] if one.get("name") == name)
        sent = {
            "from": sender or self.owner,
            "to": address,
            "gas": 3_000_000,
            "data": "0x" + (_selector(form) + _encode(form["inputs"], arguments)).hex(),
        }
        raw = self.tester.call(sent)  # raises where the transaction would
        if write:
            done = self.tester.send_transaction(sent)
            self.logs = self.tester.get_transaction_receipt(done)["logs"]
        found = decode([_type(one) for one in form["outputs"]], bytes.fromhex(raw[2:]))
        if not found:
            return None
        return found[0] if len(found) == 1 else found


def _type(form):
    if form["type"].startswith("tuple"):
        inner = ",".join(_type(one) for one in form["components"])
        return f"({inner}){form['type'][5:]}"
    return form["type"]


def _encode(forms, values):
    from eth_abi import encode

    return encode([_type(one) for one in forms], list(values))


def _selector(form):
    from eth_utils import keccak

    return keccak(f"{form['name']}({','.join(_type(one) for one in form['inputs'])})".encode())[:4]


@pytest.fixture(scope="module")
def chain(need):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from eth_tester import EthereumTester, PyEVMBackend
    except ImportError:
        need("dapp", "eth-tester and py-evm are not installed")
    return Chain(EthereumTester(PyEVMBackend()))


@pytest.fixture(scope="module")
def server():
    made = Server(gpus=1, flat=False)
    yield made
    made.close()


class Deployed:
    def __init__(self, chain, contracts, quote):
        self.chain, self.compiled = chain, contracts
        self.quotes = chain.deploy(contracts["KnownQuotes"])
        parsed = tdx.parse_quote(quote)
        body = quote[48:632]
        assert body[520:584] == parsed.report_data
        code = second_keccak(body[136:184] + body[184:232] + body[328:520])
        self.address = chain.deploy(contracts["Answers"], self.quotes, [code])

    def know(self, quote):
        self.chain.call(self.compiled["KnownQuotes"], self.quotes, "add", quote, write=True)

    def __call__(self, name, *arguments, write=False):
        return self.chain.call(
            self.compiled["Answers"], self.address, name, *arguments, write=write
        )

    def refuses(self, reason, name, *arguments):
        from eth_tester.exceptions import TransactionFailed

        with pytest.raises(TransactionFailed, match=reason):
            self(name, *arguments)


def issued(deployed):
    """A new nonce of the contract: what its event says."""
    deployed("newNonce", write=True)
    return bytes.fromhex(deployed.chain.logs[0]["data"][2:])


def second_keccak(data):
    from eth_utils import keccak

    return keccak(data)


def attested(server, nonce):
    report = json.loads(server.report(nonce.hex()).body)
    binding = base64.urlsafe_b64decode(report["binding"] + "==")
    return base64.b64decode(report["evidence"]), binding


@pytest.fixture
def deployed(chain, contracts, server):
    quote, _ = attested(server, bytes(32))
    return Deployed(chain, contracts, quote)


@pytest.fixture
def registered(deployed, server):
    nonce = issued(deployed)
    quote, binding = attested(server, nonce)
    deployed.know(quote)
    deployed("register", quote, binding, write=True)
    return deployed


def typed(statement):
    return tuple(second.typed(json.loads(statement.to_bytes())).values())


@pytest.mark.parametrize("case", STATEMENTS, ids=lambda case: case["name"])
def test_digest_and_signer_are_the_clients(deployed, case):
    statement = parse_statement(case["statement"].encode())
    signature = bytes.fromhex(case["want"]["secp256k1"])
    assert typed(statement) == statement.typed
    assert deployed("digestOf", statement.typed) == statement.digest
    signer = recover_address(statement.digest, signature, id="x")
    assert deployed("signerOf", statement.typed, signature).lower() == "0x" + signer.hex()


def test_signatures_have_one_form(deployed):
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    statement = parse_statement(STATEMENTS[0]["statement"].encode())
    raw = bytes.fromhex(STATEMENTS[0]["want"]["secp256k1"])
    high = (order - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big")
    other = raw[:32] + high + bytes([55 - raw[64]])
    deployed.refuses("high s", "signerOf", statement.typed, other)
    deployed.refuses("v", "signerOf", statement.typed, raw[:64] + b"\0")
    deployed.refuses("length", "signerOf", statement.typed, raw[:64])


def test_register(registered, server):
    address = server.dialect.process.address
    instance, expires = registered("signers", checksum_address(address))
    assert instance == server.dialect.process.instance
    assert expires > 0


def test_register_again(deployed, server):
    """What is registered stays as it is until it expires; then it can be again."""
    address = checksum_address(server.dialect.process.address)
    expires = []
    for _ in range(2):
        nonce = issued(deployed)
        quote, binding = attested(server, nonce)
        deployed.know(quote)
        deployed("register", quote, binding, write=True)
        expires.append(deployed("signers", address)[1])
        nonce = issued(deployed)
        quote, binding = attested(server, nonce)
        deployed.know(quote)
        deployed.refuses("signer", "register", quote, binding)
        deployed.chain.tester.time_travel(expires[-1])
    assert expires[0] < expires[1]


def test_register_refuses(deployed, server):
    nonce = issued(deployed)
    quote, binding = attested(server, nonce)
    deployed.refuses("quote", "register", quote, binding)
    deployed.know(quote)
    deployed.refuses("binding", "register", quote, binding[:50] + b"\1" + binding[51:])
    deployed.refuses("tag", "register", quote, binding[:-1])
    deployed.refuses("tag", "register", quote, b"t" + binding)
    other, its = attested(server, b"o" * 32)
    deployed.know(other)
    deployed.refuses("nonce", "register", other, its)
    deployed("register", quote, binding, write=True)
    deployed.refuses("nonce", "register", quote, binding)


def test_register_refuses_debug_and_other_code(chain, contracts):
    from teeverify.simulator.tee import SimulatedTee

    debug = Server(tee=SimulatedTee(gpus=1, fault="debug-td"), flat=False)
    other = Server(tee=SimulatedTee(gpus=1, fault="wrong-mr-config"), flat=False)
    try:
        found = Deployed(chain, contracts, attested(debug, bytes(32))[0])
        for server, reason in ((debug, "debug"), (other, "code")):
            quote, binding = attested(server, issued(found))
            found.know(quote)
            found.refuses(reason, "register", quote, binding)
    finally:
        debug.close()
        other.close()


def answer(server, deployed, *, number=None, content=None, body=REQUEST, **changes):
    """An answer to a request of the contract; its arguments for ``use``."""
    if number is None:
        asked = hashlib.sha256(REQUEST).digest() if content is None else content
        number = deployed("ask", asked, write=True)
    random, report = b"r" * 32, hashlib.sha256(b"attestation").digest()
    challenge = changes.get("challenge") or challenge_of(
        random, report, deployed("beaconOf", number)
    )
    reply = server.chat(body, challenge=challenge.hex())
    raw = read_header(reply.headers["teeverify-statement"], reply.headers["teeverify-signature"])
    signed = parse_signed(raw)
    return signed.statement.typed, signed.signatures["secp256k1"], number, random, report


def test_use(registered, server):
    arguments = answer(server, registered)
    registered("use", *arguments, write=True)
    registered.refuses("request", "use", *arguments)


def test_use_refuses(registered, server, deployed):
    typed, signature, number, random, report = answer(server, registered)
    registered.refuses("request", "use", typed, signature, number + 1, random, report)
    registered.refuses("challenge", "use", typed, signature, number, b"o" * 32, report)
    registered.refuses("challenge", "use", typed, signature, number, random, b"o" * 32)
    for place in (0, 4, 5, 6):  # whatever is changed, another key has signed
        changed = list(typed)
        value = changed[place]
        changed[place] = b"o" * 32 if isinstance(value, bytes) else value + 1
        registered.refuses("signer", "use", tuple(changed), signature, number, random, report)
    error = answer(server, registered, body=b"{}", content=bytes(32))
    registered.refuses("no answer", "use", *error)
    other = answer(server, registered, body=question(seed=7))
    registered.refuses("content", "use", *other)


def test_an_unregistered_enclave(registered):
    other = Server(gpus=1, flat=False)
    try:
        registered.refuses("signer", "use", *answer(other, registered))
    finally:
        other.close()


@pytest.mark.network
def test_from_a_contracts_nonce_to_its_use_of_an_answer(chain, contracts):
    """A server in a process of its own, the client over HTTP, and the contract: nothing by hand."""
    import requests

    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    with running(gpus=1) as server:
        verifier = Verifier(roots=server.roots)

        def report(nonce):
            asked = {"nonce": nonce.hex(), "dialect": "teeverify/1"}
            body = requests.get(f"{server.url}/attestation/report", asked, timeout=30).content
            result = verifier.verify(body, dialect="teeverify/1", nonce=nonce)
            assert result.finding("freshness.nonce").outcome is Outcome.PROVEN
            shown = json.loads(body)
            binding = base64.urlsafe_b64decode(shown["binding"] + "==")
            return result, base64.b64decode(shown["evidence"]), binding

        deployed = Deployed(chain, contracts, report(bytes(32))[1])
        nonce = issued(deployed)
        attestation, quote, binding = report(nonce)
        assert binding[16:48] == nonce
        deployed.know(quote)
        deployed("register", quote, binding, write=True)
        assert deployed("signers", str(attestation.signer))[1] > 0

        body = question(max_tokens=4)
        number = deployed("ask", hashlib.sha256(body).digest(), write=True)
        session = verifier.connect(server.url)
        challenge = session.challenge(deployed("beaconOf", number))
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        reply = requests.post(
            f"{server.url}/chat/completions", body, headers={**headers, **challenge.headers},
            timeout=30,
        )  # fmt: skip
        evm = session.verify_response(response=reply, challenge=challenge).evm()
        arguments = (evm.answer, evm.signature, number, evm.challenge_random,
                     evm.attestation_sha256)  # fmt: skip
        other = deployed("ask", bytes(32), write=True)
        deployed.refuses("challenge", "use", *arguments[:2], other, *arguments[3:])
        deployed("use", *arguments, write=True)
        deployed.refuses("request", "use", *arguments)

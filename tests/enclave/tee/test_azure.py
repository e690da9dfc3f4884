"""Azure's virtual TPM: a real software TPM (swtpm), set up as Azure's firmware does."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import struct
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from teeverify import Verifier, tdx
from teeverify.appraisal.observation import Outcome
from teeverify.clock import now
from teeverify.enclave.dialects.teeverify import TeeverifyDialect
from teeverify.enclave.tee import azure
from teeverify.enclave.tee.azure import AzureVm
from teeverify.enclave.tee.machine import Machine
from teeverify.enclave.tee.tpm import Tpm
from teeverify.encoding.fields import JsonObject
from teeverify.errors import EndpointUnavailable, TeeVerifyError
from teeverify.providers.teeverify import TEEVERIFY
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.tee import SimulatedTee

DATA = secrets.token_bytes(64)
INDEX, KEY = 0x01400001, 0x81000003

pytestmark = pytest.mark.network


class SoftwareTpm:
    """A TPM of its own, with an attestation key and an envelope where Azure has them."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "tpm.sock"
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
                *("--server", f"type=unixio,path={self.socket}"),
                *("--ctrl", f"type=unixio,path={folder}/tpm.sock.ctrl"),
                *("--flags", "not-need-init,startup-clear"),
            ],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < deadline, "swtpm did not start"
            time.sleep(0.02)

    def close(self):
        self._process.kill()
        self._process.wait()

    def tool(self, *arguments):
        subprocess.run(
            [f"tpm2_{arguments[0]}", *arguments[1:]],
            env={"TPM2TOOLS_TCTI": f"swtpm:path={self.socket}", "PATH": "/usr/bin:/bin"},
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=30,
        )

    def make_key(self):
        """Gives its modulus."""
        attributes = "restricted|sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth"
        algorithm = "rsa2048:rsassa-sha256:null"
        self.tool("createprimary", "-C", "o", "-G", algorithm, "-a", attributes, "-c", "ak.ctx")
        self.tool("evictcontrol", "-C", "o", "-c", "ak.ctx", hex(KEY))
        self.tool("readpublic", "-c", hex(KEY), "-f", "der", "-o", "ak.der")
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        return load_der_public_key((self.folder / "ak.der").read_bytes()).public_numbers().n

    def store(self, content):
        (self.folder / "nv").write_bytes(content)
        attributes = "ownerread|ownerwrite|authread|authwrite"
        size = str(len(content))
        self.tool("nvdefine", hex(INDEX), "-C", "o", "-s", size, "-a", attributes)
        self.tool("nvwrite", hex(INDEX), "-C", "o", "-i", "nv")


@pytest.fixture
def tpm(tmp_path, need):
    if shutil.which("swtpm") is None or shutil.which("tpm2_createprimary") is None:
        need("tee", "no software TPM (swtpm, tpm2-tools)")
    made = SoftwareTpm(tmp_path)
    yield made
    made.close()


class World:
    """An Azure TD of the simulator, whose TPM is the software TPM."""

    def __init__(self, tpm):
        from teeverify.simulator.azure import AzureTd
        from teeverify.simulator.intel import Intel

        self.intel = Intel(at=now())
        self.td = AzureTd(self.intel)
        self.tpm = tpm
        modulus = tpm.make_key()
        number = base64.urlsafe_b64encode(modulus.to_bytes(256, "big")).rstrip(b"=").decode()
        key = {"kid": "HCLAkPub", "kty": "RSA", "key_ops": ["sign"], "e": "AQAB", "n": number}
        self.claims = json.dumps({"keys": [key], "vm-configuration": {}}).encode()
        self.envelope = self.td.hcl(self.claims)
        self.asked = []

    def fetch(self, path, body):
        self.asked.append(path)
        report = json.loads(body)["report"]
        data = base64.urlsafe_b64decode(report + "=" * (-len(report) % 4))[128:192]
        quote = self.intel.quote(report_data=data)
        return json.dumps({"quote": base64.urlsafe_b64encode(quote).decode().rstrip("=")}).encode()

    def verify(self, evidence, nonce):
        found, quote = tdx.parse_azure_evidence(
            JsonObject.parse(evidence, path="evidence", id="azure.hcl")
        )
        endorsements = tdx.Endorsements.load(json.dumps(self.intel.collateral()))
        roots = UnsafeTestRoots([self.intel.roots_pem()])
        claims = tdx.verify_quote(quote, endorsements, at=now(), roots=roots)
        hcl = tdx.parse_hcl_report(found.hcl)
        return tdx.verify_vtpm(
            hcl,
            claims,
            message=found.message,
            signature=found.signature,
            pcrs=found.pcrs,
            nonce=nonce,
        )


@pytest.fixture
def world(tpm):
    return World(tpm)


def refusal(call, *arguments):
    with pytest.raises(EndpointUnavailable) as caught:
        call(*arguments)
    assert caught.value.id == "endpoint.devices"
    return caught.value


def test_evidence_of_a_td_verifies(world, tpm):
    tpm.store(world.envelope)
    tpm.tool("pcrextend", "16:sha256=" + "11" * 32)
    machine = AzureVm(tpm.socket, world.fetch)
    assert machine.platform == "azure-tdx"
    evidence = machine.quote(DATA).quote
    proved = world.verify(evidence, hashlib.sha256(DATA).digest())
    assert len(proved.pcrs) == 24
    assert proved.pcrs[16] == hashlib.sha256(bytes(32) + b"\x11" * 32).digest()
    again = machine.quote(bytes(64)).quote
    assert world.verify(again, hashlib.sha256(bytes(64)).digest())
    assert world.asked == ["/acc/tdquote"]


def test_a_client_accepts_a_server_of_such_a_machine(world, tpm):
    """From the TPM to the verdict: the keys of a server, its GPUs, and what the client asked."""
    tpm.store(world.envelope)
    simulated = SimulatedTee(gpus=2)
    gpus = SimpleNamespace(reports=simulated.devices)
    machine = Machine(AzureVm(tpm.socket, world.fetch), gpus)
    engine = {"kind": "embedded", "location": "process", "model": "m", "weights": "w"}
    server = TeeverifyDialect(
        model="m", engine=engine, routes=(), dialects=("teeverify/1",), version="0", ttl_seconds=1
    )
    server.prepare(machine)
    nonce = secrets.token_bytes(32)
    report = server.report(server.question({"nonce": nonce.hex()}), machine)
    verifier = Verifier(
        roots=UnsafeTestRoots([world.intel.roots_pem(), simulated.roots_pem()]),
        endorsements=[
            tdx.Endorsements.load(json.dumps(world.intel.collateral())),
            _nvidia(simulated),
        ],
        offline=True,
    )
    result = verifier.verify(report, dialect="teeverify/1", nonce=nonce, model="m")
    assert result.signer == server.process.keys[0]
    assert result.claims["gpu_link"].outcome is not Outcome.FAILED
    with pytest.raises(TeeVerifyError) as caught:
        verifier.verify(report, dialect="teeverify/1", nonce=secrets.token_bytes(32), model="m")
    assert caught.value.id == "freshness.nonce"


def _nvidia(simulated):
    beside = {"endorsements": {"nvidia": simulated.endorsements()["nvidia"]}}
    return TEEVERIFY.enclosed(json.dumps(beside).encode()).nvidia


def test_evidence_that_answers_another_question_is_refused(world, tpm):
    tpm.store(world.envelope)
    evidence = AzureVm(tpm.socket, world.fetch).quote(DATA).quote
    with pytest.raises(TeeVerifyError) as caught:
        world.verify(evidence, hashlib.sha256(bytes(64)).digest())
    assert caught.value.id == "azure.nonce"


def test_an_envelope_of_amd_goes_with_its_certificate(world, tpm):
    envelope = world.td.hcl(world.claims, report_type=2)
    tpm.store(envelope)
    answer = json.dumps({"vcekCert": "PEM", "certificateChain": "PEM"}).encode()
    machine = AzureVm(tpm.socket, lambda path, body: answer)
    assert machine.platform == "azure-snp"
    form = json.loads(machine.quote(DATA).quote)
    assert bytes(form["report"]) == envelope
    assert form["vcek"] == "PEM"
    assert set(form["quote"]) == {"message", "signature", "pcrs"}


@pytest.mark.parametrize("content", [b"HCLA" + bytes(1500), bytes(40), None])
def test_an_envelope_of_another_form(world, tpm, content):
    if content is not None:
        tpm.store(content)
    error = refusal(AzureVm, tpm.socket, world.fetch)
    assert ("0x1400001" if content is None else "envelope") in str(error)


def test_a_tpm_without_the_key(tpm):
    with Tpm(tpm.socket) as opened:
        assert "0x158" in refusal(opened.quote, KEY, bytes(32)).got
        assert opened.nv_size(INDEX) is None
        assert len(opened.pcrs()) == 24


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"quote": 1}', b'{"quote": "%%%"}', b'{"quote": "a"}']
)
def test_a_metadata_service_that_answers_otherwise(world, tpm, answer):
    tpm.store(world.envelope)
    assert "metadata service" in refusal(AzureVm, tpm.socket, lambda path, body: answer).message


def test_a_quote_of_another_report(world, tpm):
    tpm.store(world.envelope)
    quote = base64.urlsafe_b64encode(world.intel.quote(report_data=bytes(64))).decode()
    error = refusal(AzureVm, tpm.socket, lambda path, body: json.dumps({"quote": quote}).encode())
    assert "of another report" in error.message


def test_no_tpm(tmp_path):
    assert "No such file" in refusal(Tpm, tmp_path / "absent").got


class Scripted:
    """A device that answers one command with given bytes."""

    def __init__(self, folder, answers):
        import socket
        import threading

        self.path = Path(folder) / "scripted.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen()

        def serve():
            connection, _ = listening.accept()
            with connection, listening:
                for answer in answers:
                    connection.recv(4096)
                    if answer:
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()


def answer(status=0, body=b"", size=None):
    return struct.pack(">HII", 0x8001, 10 + len(body) if size is None else size, status) + body


@pytest.mark.parametrize(
    "answers",
    [
        [b""],
        [b"\x80\x01"],
        [answer(size=11)],
        [answer(size=9)],
        [answer(0x101)],
        [answer(0x922)] * 6,
        [answer(body=bytes(4))],
        [answer(body=struct.pack(">IIHB", 0, 0, 0, 0))],
        [answer(body=struct.pack(">IIHB3sI", 0, 1, 4, 3, b"\xff\xff\xff", 24))],
        [answer(body=struct.pack(">IIHB3sI", 0, 1, 11, 3, b"\0\0\0", 0))],
        [answer(body=struct.pack(">IIHB3sI", 0, 1, 11, 3, b"\xff\0\0", 7))],
    ],
)
def test_a_tpm_that_answers_otherwise(tmp_path, answers):
    with Tpm(Scripted(tmp_path, answers).path) as opened:
        assert refusal(opened.pcrs).message


def test_a_busy_tpm_is_asked_again(tmp_path):
    with Tpm(Scripted(tmp_path, [answer(0x922), answer(0x18B)]).path) as opened:
        assert opened.nv_size(INDEX) is None


@pytest.mark.parametrize(
    ("tag", "here"), [("7783-7084-3265-9085-8269-3286-77\n", True), ("other", False), (None, False)]
)
def test_azure_is_recognised(tmp_path, world, tpm, tag, here):
    file = tmp_path / "tag"
    if tag is not None:
        file.write_text(tag)
    assert azure.is_here(file, tpm.socket) is False  # a VM that is not confidential
    tpm.store(world.envelope)
    assert azure.is_here(file, tpm.socket) is here
    assert azure.is_here(file, tmp_path / "absent") is False

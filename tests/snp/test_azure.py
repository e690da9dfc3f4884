"""Azure confidential VMs: envelope, claims, and the virtual TPM's quote."""

from __future__ import annotations

import base64
import hashlib
import json
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from teeverify import snp
from teeverify.encoding.fields import JsonObject
from teeverify.errors import BindingMismatch, MalformedEvidence, SignatureInvalid, StaleEvidence

from ..refusals import refused
from .conftest import AT

PCRS = tuple(bytes([n]) * 32 for n in range(24))
NONCE = b"n" * 32


class Vm:
    """A forged Azure VM, in which one thing can be wrong."""

    def __init__(self, forge):
        self.forge = forge
        self.ak = rsa.generate_private_key(65537, 2048)

    def claims(self, **changes):
        numbers = self.ak.public_key().public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        key = {
            "kid": "HCLAkPub", "kty": "RSA", "key_ops": ["sign"], "e": "AQAB",
            "n": base64.urlsafe_b64encode(modulus).rstrip(b"=").decode(),
            **changes.pop("key", {}),
        }  # fmt: skip
        return json.dumps({"keys": [key], "vm-configuration": {}, **changes}).encode()

    def hcl(self, claims=None, *, report=None, hash_type=1, report_data=None, pad=100, **changes):
        claims = self.claims() if claims is None else claims
        name = {1: "sha256", 2: "sha384", 3: "sha512"}.get(hash_type, "sha256")
        data = hashlib.new(name, claims).digest() if report_data is None else report_data
        report = self.forge.amd.report(report_data=data) if report is None else report
        fields = {
            "magic": b"HCLA", "version": 1, "size": 32 + 1184 + 20 + len(claims), "request": 2,
            "status": 0, "data_size": 20 + len(claims), "runtime": 1, "kind": 2,
            "claims_size": len(claims), **changes,
        }  # fmt: skip
        head = fields["magic"] + struct.pack(
            "<IIII", *(fields[n] for n in ("version", "size", "request", "status"))
        )
        middle = struct.pack(
            "<IIIII",
            fields["data_size"],
            fields["runtime"],
            fields["kind"],
            hash_type,
            fields["claims_size"],
        )
        return head + bytes(12) + report + middle + claims + bytes(pad)

    def message(
        self,
        *,
        nonce=NONCE,
        magic="ff544347",
        kind="8018",
        banks=None,
        digest=None,
        pcrs=PCRS,
        tail=b"",
    ):
        digest = hashlib.sha256(b"".join(pcrs)).digest() if digest is None else digest
        banks = [(0x000B, (1 << len(pcrs)) - 1)] if banks is None else banks
        select = b"".join(
            struct.pack(">HB", bank, 3) + bits.to_bytes(3, "little") for bank, bits in banks
        )
        return (
            bytes.fromhex(magic + kind)
            + struct.pack(">H", 4)
            + b"name"
            + struct.pack(">H", len(nonce))
            + nonce
            + bytes(25)
            + struct.pack(">I", len(banks))
            + select
            + struct.pack(">H", len(digest))
            + digest
            + tail
        )

    def sign(self, message, key=None):
        return (key or self.ak).sign(message, padding.PKCS1v15(), hashes.SHA256())

    def verify(self, hcl=None, *, message=None, signature=None, pcrs=PCRS, nonce=NONCE):
        envelope = snp.parse_hcl_report(self.hcl() if hcl is None else hcl)
        claims = self.forge.verify(envelope.report)
        message = self.message() if message is None else message
        return snp.verify_vtpm(
            envelope,
            claims,
            message=message,
            pcrs=pcrs,
            nonce=nonce,
            signature=self.sign(message) if signature is None else signature,
        )


@pytest.fixture(scope="module")
def vm(forge):
    return Vm(forge)


@pytest.mark.parametrize("hash_type", [1, 2, 3])
def test_good(vm, hash_type):
    found = vm.verify(vm.hcl(hash_type=hash_type))
    assert found.nonce == NONCE
    assert found.pcrs == dict(enumerate(PCRS))
    assert "vm-configuration" in found.runtime_claims


@pytest.mark.parametrize(
    "change",
    [
        {"magic": b"HCLB"},
        {"version": 0},
        {"version": 3},
        {"size": 0},
        {"request": 4},
        {"status": 1},
        {"data_size": 0},
        {"runtime": 2},
        {"kind": 4},
        {"claims_size": 1},
        {"hash_type": 0},
        {"hash_type": 4},
        {"claims_size": 0xFFFFFFFF, "data_size": 0x13},
    ],
    ids=str,
)
def test_envelope(vm, change):
    refused(MalformedEvidence, "azure.hcl", lambda: snp.parse_hcl_report(vm.hcl(**change)))


def test_envelope_size(vm):
    raw = vm.hcl(pad=0)
    assert snp.parse_hcl_report(raw).claims
    for wrong in (b"", raw[:31], raw[:1000], raw[:-1], raw + b"\1", raw + bytes(20000)):
        refused(MalformedEvidence, "azure.hcl", lambda wrong=wrong: snp.parse_hcl_report(wrong))


def test_claims_that_the_report_does_not_bind(vm):
    claims = vm.claims()
    digest = hashlib.sha256(claims).digest()
    for data in (bytes(64), digest[::-1], digest + bytes(31) + b"\1"):
        refused(
            BindingMismatch,
            "azure.claims",
            lambda data=data: vm.verify(vm.hcl(claims, report_data=data)),
        )
    # A hash of another kind than the envelope says.
    refused(
        BindingMismatch,
        "azure.claims",
        lambda: vm.verify(vm.hcl(claims, hash_type=2, report_data=digest)),
    )


def test_the_report_of_another_envelope(vm):
    envelope = snp.parse_hcl_report(vm.hcl())
    other = vm.forge.verify(snp.parse_hcl_report(vm.hcl()).report)
    message = vm.message()
    refused(
        BindingMismatch,
        "azure.claims",
        lambda: snp.verify_vtpm(
            envelope, other, message=message, signature=vm.sign(message), pcrs=PCRS, nonce=NONCE
        ),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"keys": []},
        {"keys": 5},
        {"key": {"kid": "other"}},
        {"key": {"kty": "EC"}},
        {"key": {"n": "AQAB"}},
        {"key": {"n": "***"}},
        {"key": {"e": "Ag"}},
        {"key": {"n": 5}},
    ],
    ids=str,
)
def test_attestation_key(vm, change):
    claims = vm.claims(**dict(change))
    refused(MalformedEvidence, "azure.claims", lambda: vm.verify(vm.hcl(claims)))


def test_claims_that_are_not_json(vm):
    refused(MalformedEvidence, "azure.claims", lambda: vm.verify(vm.hcl(b"{")))


def test_quote_of_another_key(vm):
    stranger = rsa.generate_private_key(65537, 2048)
    message = vm.message()
    for signature in (vm.sign(message, stranger), b"", bytes(256), vm.sign(message)[:-1]):
        refused(
            SignatureInvalid,
            "azure.quote",
            lambda s=signature: vm.verify(message=message, signature=s),
        )
    changed = message[:-1] + bytes([message[-1] ^ 1])
    refused(
        SignatureInvalid,
        "azure.quote",
        lambda: vm.verify(message=changed, signature=vm.sign(message)),
    )


@pytest.mark.parametrize(
    "change", [{"magic": "ff544348"}, {"kind": "8017"}, {"kind": "8019"}, {"tail": b"\0"}], ids=str
)
def test_not_a_quote(vm, change):
    refused(MalformedEvidence, "azure.quote", lambda: vm.verify(message=vm.message(**change)))


def test_every_truncation_of_a_quote(vm):
    whole = vm.message()
    for size in range(len(whole)):
        refused(MalformedEvidence, "azure.quote", lambda n=size: snp.parse_tpm_quote(whole[:n]))


def test_nonce(vm):
    for carried in (b"", b"m" * 32, NONCE[:-1], NONCE + b"n"):
        refused(
            StaleEvidence,
            "azure.nonce",
            lambda carried=carried: vm.verify(message=vm.message(nonce=carried)),
        )
    # Whoever asks without a nonce gets no answer, also from a quote without one.
    refused(
        StaleEvidence, "azure.nonce", lambda: vm.verify(message=vm.message(nonce=b""), nonce=b"")
    )
    assert vm.verify(message=vm.message(nonce=b"x"), nonce=b"x")


def test_pcrs_that_are_not_the_quoted_ones(vm):
    for pcrs in (PCRS[:-1], (*PCRS[:-1], bytes(32)), PCRS[::-1], ()):
        refused(BindingMismatch, "azure.pcrs", lambda pcrs=pcrs: vm.verify(pcrs=pcrs))
    short = (*PCRS[:-1], b"x")
    message = vm.message(digest=hashlib.sha256(b"".join(short)).digest())
    refused(MalformedEvidence, "azure.pcrs", lambda: vm.verify(message=message, pcrs=short))


def test_trustee_selection_hole(vm):
    """A quote of the resettable PCRs 16 and 23 must not pass as one of PCR 0 and 1."""
    for banks in (
        [(0x000B, 1 << 16 | 1 << 23)],
        [(0x0004, 3)],
        [],
        [(0x000B, 7)],
        [(0x000B, 1)],
        [(0x000B, 3), (0x0004, 3)],
    ):
        message = vm.message(banks=banks, pcrs=PCRS[:2])
        refused(
            BindingMismatch,
            "azure.pcrs",
            lambda message=message: vm.verify(message=message, pcrs=PCRS[:2]),
        )


def evidence(vm, **changes):
    message = vm.message()
    return {
        "quote": {"message": list(message), "signature": list(vm.sign(message)),
                  "pcrs": [list(pcr) for pcr in PCRS]},
        "report": list(vm.hcl()), **changes,
    }  # fmt: skip


def test_evidence(vm):
    found = snp.parse_azure_evidence(JsonObject(evidence(vm), path="azure", id="azure.hcl"))
    assert found.pcrs == PCRS
    assert found.certificates is None


@pytest.mark.parametrize(
    "change",
    [
        {"report": [256]},
        {"report": [-1]},
        {"report": ["a"]},
        {"report": [True]},
        {"report": None},
        {"report": [0] * 20000},
        {"quote": {}},
        {"vcek": 5},
        {"quote": {"message": [], "signature": [], "pcrs": []}},
        {"quote": {"message": [], "signature": [], "pcrs": [[0]] * 25}},
        {"quote": {"message": [], "signature": [], "pcrs": [[0] * 33]}},
    ],
    ids=lambda c: str(c)[:40],
)
def test_evidence_of_another_form(vm, change):
    with pytest.raises(MalformedEvidence):
        snp.parse_azure_evidence(JsonObject(evidence(vm, **change), path="azure", id="azure.hcl"))


def as_text(vm, old=None, **changes):
    """The same in the agents' form since version 1: text, and the certificate in DER."""
    old = evidence(vm) if old is None else old
    quote = {name: bytes(old["quote"][name]).hex() for name in ("message", "signature")}
    return {
        "version": 2,
        "tpm_quote": quote | {"pcrs": [bytes(pcr).hex() for pcr in old["quote"]["pcrs"]]},
        "hcl_report": base64.urlsafe_b64encode(bytes(old["report"])).decode(),
        "vcek": base64.urlsafe_b64encode(vm.forge.amd.vcek).decode(),
        **changes,
    }


def read(form):
    return snp.parse_azure_evidence(JsonObject(form, path="azure", id="azure.hcl"))


def test_evidence_as_text(vm):
    numbers = evidence(vm)
    form, old = as_text(vm, numbers), read(numbers)
    found = read(form)
    assert (found.hcl, found.message, found.pcrs) == (old.hcl, old.message, PCRS)
    assert found.certificates == vm.forge.amd.vcek
    bare = read(form | {"hcl_report": form["hcl_report"].rstrip("="), "vcek": None})
    assert (bare.hcl, bare.certificates) == (old.hcl, None)


@pytest.mark.parametrize(
    "change",
    [
        {"hcl_report": "AAAA===="},
        {"hcl_report": "AA="},
        {"hcl_report": "A-+A"},
        {"hcl_report": "QUFB" * 8192},
        {"hcl_report": 5},
        {"hcl_report": None, "report": None},
        {"tpm_quote": None},
        {"tpm_quote": {"message": "0g", "signature": "00", "pcrs": ["00" * 32]}},
        {"tpm_quote": {"message": "AAAA", "signature": "-_", "pcrs": ["00" * 32]}},
        {"tpm_quote": {"message": "00", "signature": "00", "pcrs": ["00" * 33]}},
        {"tpm_quote": {"message": "00", "signature": "00", "pcrs": "00"}},
        {"vcek": "!"},
        {"vcek": "QUFB" * 4096},
    ],
    ids=lambda c: str(c)[:40],
)
def test_text_of_another_form(vm, change):
    with pytest.raises(MalformedEvidence):
        read(as_text(vm, **change))


def test_appraisal_of_text(vm):
    from teeverify.client import Verifier

    verifier = Verifier(
        roots=vm.forge.roots, endorsements=vm.forge.amd.endorsements(), offline=True
    )

    def appraise(form, nonce=NONCE):
        return verifier.appraise(json.dumps(form).encode(), at=AT, scope="evidence", nonce=nonce)

    good = as_text(vm)
    assert appraise(good).exit_code == 0
    assert appraise(good, b"m" * 32).finding("azure.nonce").exit_code == 2
    pcrs = ["11" * 32, *good["tpm_quote"]["pcrs"][1:]]
    wrong = good | {"tpm_quote": good["tpm_quote"] | {"pcrs": pcrs}}
    assert appraise(wrong).finding("azure.pcrs").exit_code == 2


def test_appraisal(vm, tmp_path):
    from teeverify.client import Verifier

    amd = vm.forge.amd
    verifier = Verifier(roots=vm.forge.roots, endorsements=amd.endorsements(), offline=True)
    raw = json.dumps(evidence(vm)).encode()

    def appraise(nonce):
        return verifier.appraise(raw, at=AT, scope="evidence", nonce=nonce)

    good = appraise(NONCE)
    assert good.exit_code == 0
    assert good.finding("azure.pcrs").outcome.value == "proven"
    assert appraise(None).finding("azure.nonce").exit_code == 2
    assert appraise(b"m" * 48).finding("azure.nonce").exit_code == 2
    (identity,) = good.identities
    assert identity.registers["pcr23"] == PCRS[23].hex()
    alone = verifier.appraise(vm.hcl(), at=AT, scope="evidence")
    assert alone.exit_code == 0


@pytest.mark.vectors
class TestReal:
    AT = "2026-09-01T00:00:00Z"

    def load(self, vectors, name):
        return (vectors / "snp/azure" / name).read_bytes()

    def milan(self, vectors):
        envelope = snp.parse_hcl_report(self.load(vectors, "hcl_report_milan_v2.bin"))
        endorsements = snp.Endorsements.load(vectors / "snp/azure/vcek_chain_milan_v2.pem")
        claims = snp.verify_report(
            envelope.report, endorsements, at=self.AT, unsafe_without_crl=True
        )
        return envelope, claims

    def test_milan(self, vectors):
        envelope, claims = self.milan(vectors)
        quote = json.loads(self.load(vectors, "tpm_quote_milan_v2.json"))
        given = {
            "message": bytes.fromhex(quote["message"]),
            "signature": bytes.fromhex(quote["signature"]),
            "pcrs": [bytes.fromhex(pcr) for pcr in quote["pcrs"]],
        }
        found = snp.verify_vtpm(envelope, claims, nonce=b"challenge", **given)
        assert len(found.pcrs) == 24
        refused(
            StaleEvidence,
            "azure.nonce",
            lambda: snp.verify_vtpm(envelope, claims, nonce=b"other", **given),
        )

    def test_quote_of_another_vm(self, vectors):
        envelope, claims = self.milan(vectors)
        refused(
            SignatureInvalid,
            "azure.quote",
            lambda: snp.verify_vtpm(
                envelope,
                claims,
                nonce=b"challenge",
                pcrs=[bytes(32)],
                message=self.load(vectors, "tpm_quote_other.msg"),
                signature=self.load(vectors, "tpm_quote_other.sig"),
            ),
        )

    def test_genoa_end_to_end(self, vectors, capsys):
        from teeverify.cli.main import main

        folder = vectors / "snp"
        nonce = (
            "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938c"
            "a05475f8b46094de6b64270ea35d950f"
        )
        command = [
            "verify",
            str(folder / "azure/evidence_genoa_v3.json"),
            "--for",
            "evidence",
            "--at",
            self.AT,
            "--endorsements",
            str(folder / "crl/genoa_vcek.crl"),
        ]
        assert main([*command, "--nonce", nonce]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "a genuine AMD SEV-SNP VM" in text
        assert "tied to no key or answer of yours" in text
        assert main(command) == 2
        assert main([*command, "--nonce", "00" * 32]) == 2
        assert main([*command[:-2], "--nonce", nonce]) == 3

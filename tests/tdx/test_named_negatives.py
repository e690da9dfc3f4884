"""The failures that others gave names to, or learnt the hard way: each forged, each refused.

The first table has the names of dcap-qvl's generator of broken samples; the second, bugs of shipped
verifiers (advisories, audits and reviews), and the cases in which two of them differ.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
    TeeVerifyError,
)
from teeverify.simulator.intel import Intel

DAY = timedelta(days=1)


class Case:
    """A forged quote and its endorsements, in which one thing is wrong."""

    def __init__(self, make_forge):
        self.make = make_forge
        self.forge = make_forge()
        self.quote = None
        self.endorsements = None
        self.options = {}

    @property
    def intel(self) -> Intel:
        return self.forge.intel

    def verify_broken(self, break_it):
        """What cannot be read at all is refused already as it is loaded."""
        break_it(self)
        self.forge.verify(self.quote, self.endorsements, **self.options)

    def quoted(self, **fields):
        self.quote = self.intel.quote(**fields)

    def endorsed(self, changes=None, **overrides):
        self.endorsements = self.forge.endorsements(changes, **overrides)

    def made(self, **overrides):
        self.forge = self.make(**overrides)

    def later(self, days, *lasting):
        """Days later, where only what is named still lasts."""
        late = {"next_update": self.forge.at + 90 * DAY}
        shown = {"nextUpdate": late["next_update"].strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.endorsed(**{
            name: late if name.endswith("crl") else shown for name in lasting
        })  # fmt: skip
        self.options["at"] = self.forge.at + days * DAY

    def signed_by(self, authority):
        self.endorsed(signer=authority)

    def components(self, count):
        level = self.intel.level("UpToDate")
        svns = level["tcb"]["sgxtcbcomponents"]
        level["tcb"]["sgxtcbcomponents"] = [*svns, {"svn": 0}][:count]
        self.endorsed(tcb_info={"tcbLevels": [level]})

    def cut_quote(self, size):
        self.quote = self.intel.quote()[:size]

    def patched(self, offset, value):
        raw = bytearray(self.intel.quote())
        raw[offset : offset + len(value)] = value
        self.quote = bytes(raw)

    def shorter_certification(self):
        raw = self.intel.quote()
        size = int.from_bytes(raw[1254:1258], "little") - 1
        self.patched(1254, size.to_bytes(4, "little"))

    def resigned(self, change):
        text = change(self.intel.collateral()["tcb_info"])
        self.endorsed({"tcb_info": text})

    def foreign(self):
        self.quote = self.make().intel.quote()

    def doubled_crl(self):
        form = self.intel.collateral()
        self.endorsed({"pck_crl": form["root_ca_crl"]})

    def swapped_crls(self):
        form = self.intel.collateral()
        self.endorsed({"pck_crl": form["root_ca_crl"], "root_ca_crl": form["pck_crl"]})


LASTING = ("tcb_info", "qe_identity", "root_crl", "pck_crl")


def _but(name):
    return [other for other in LASTING if other != name]


NAMES = {
    "tcb_expired": (
        lambda c: c.later(40, *_but("tcb_info")), EndorsementUnavailable, "tdx.tcb-info",
    ),
    "tcb_not_yet_valid": (
        lambda c: c.options.update(at=c.forge.at - 2 * DAY), EndorsementUnavailable, "tdx.root-crl",
    ),
    "qe_identity_expired": (
        lambda c: c.later(40, *_but("qe_identity")), EndorsementUnavailable, "tdx.qe-identity",
    ),
    "root_crl_expired": (
        lambda c: c.later(40, *_but("root_crl")), EndorsementUnavailable, "tdx.root-crl",
    ),
    "pck_crl_expired": (
        lambda c: c.later(40, *_but("pck_crl")), EndorsementUnavailable, "tdx.pck-crl",
    ),
    "pck_certificate_expired": (
        lambda c: c.made(certificates={"pck": {"not_after": c.forge.at - DAY}}),
        EndorsementUnavailable, "tdx.pck-chain",
    ),
    "fmspc_mismatch": (
        lambda c: c.endorsed(tcb_info={"fmspc": "00806f050000"}), EndorsementInvalid, "tdx.fmspc",
    ),
    "pceid_mismatch": (
        lambda c: c.endorsed(tcb_info={"pceId": "0001"}), EndorsementInvalid, "tdx.fmspc",
    ),
    "qe_report_hash_mismatch": (
        lambda c: c.quoted(qe={"report_data": bytes(64)}), BindingMismatch, "tdx.attestation-key",
    ),
    "qe_report_signature_invalid": (
        lambda c: c.quoted(corrupt="qe_report_signature"), SignatureInvalid,
        "tdx.qe-report-signature",
    ),
    "quote_signature_invalid": (
        lambda c: c.quoted(corrupt="quote_signature"), SignatureInvalid, "tdx.quote-signature",
    ),
    "qe_mrsigner_mismatch": (
        lambda c: c.quoted(qe={"mr_signer": bytes(32)}), BindingMismatch, "tdx.qe-identity-match",
    ),
    "qe_isvprodid_mismatch": (
        lambda c: c.quoted(qe={"isv_prod_id": 1}), BindingMismatch, "tdx.qe-identity-match",
    ),
    "tdx_debug_enabled": (lambda c: c.quoted(debug=True), DebugEnabled, "tdx.debug-disabled"),
    "ca_used_as_end_entity": (
        lambda c: c.made(certificates={"pck": {"ca": True}}), ChainInvalid, "tdx.pck-chain",
    ),
    "ca_used_as_end_entity_tcb": (
        lambda c: c.signed_by(c.intel.root.issue("Intel SGX TCB Signing", ca=True)),
        ChainInvalid, "tdx.tcb-info",
    ),
    "tcb_signature_invalid": (
        lambda c: c.endorsed({"tcb_info_signature": "00" * 63 + "01"}), SignatureInvalid,
        "tdx.tcb-info",
    ),
    "pck_revoked": (lambda c: c.endorsed(revoked=["pck"]), EndorsementInvalid, "tdx.pck-crl"),
    "intermediate_revoked": (
        lambda c: c.endorsed(revoked=["ca"]), EndorsementInvalid, "tdx.pck-chain",
    ),
    "tcb_signer_revoked": (
        lambda c: c.endorsed(revoked=["signer"]), EndorsementInvalid, "tdx.tcb-info",
    ),
    "tcb_status_revoked": (lambda c: c.endorsed(tcb_status="Revoked"), TcbRejected, "tdx.tcb"),
    "no_matching_tcb_level": (
        lambda c: c.endorsed(tcb_info={"tcbLevels": [c.intel.level("UpToDate", raise_by=1)]}),
        TcbRejected, "tdx.tcb",
    ),
    "untrusted_root": (lambda c: c.foreign(), TeeVerifyError, "tdx.pck-chain"),
    "truncated_quote": (lambda c: c.cut_quote(600), MalformedEvidence, "tdx.quote"),
    "unsupported_version": (
        lambda c: c.patched(0, b"\6\0"), MalformedEvidence, "tdx.quote",
    ),
    "unsupported_key_type": (lambda c: c.patched(2, b"\3\0"), MalformedEvidence, "tdx.quote"),
    "unsupported_tee_type": (lambda c: c.patched(4, b"\1"), MalformedEvidence, "tdx.quote"),
    "wrong_qe_vendor": (lambda c: c.patched(12, bytes(16)), MalformedEvidence, "tdx.quote"),
}  # fmt: skip
LEARNT = {
    "CVE-2026-22696: QE identity never verified": (
        lambda c: c.endorsed({"qe_identity_signature": "00" * 63 + "01"}), SignatureInvalid,
        "tdx.qe-identity",
    ),
    "GHSA-6q6c-vvf9-fj3w: 15 components": (
        lambda c: c.components(15), MalformedEvidence, "tdx.tcb-info",
    ),
    "17 components": (lambda c: c.components(17), MalformedEvidence, "tdx.tcb-info"),
    "signer swap: TCB info by a CPU's key": (
        lambda c: c.signed_by(c.intel.pck), ChainInvalid, "tdx.tcb-info",
    ),
    "signer swap: TCB info by the CPU's CA": (
        lambda c: c.signed_by(c.intel.ca), ChainInvalid, "tdx.tcb-info",
    ),
    "CRLs swapped": (lambda c: c.swapped_crls(), EndorsementInvalid, "tdx.root-crl"),
    "root CRL given twice": (lambda c: c.doubled_crl(), EndorsementInvalid, "tdx.pck-crl"),
    "root in its own CRL": (
        lambda c: c.endorsed(revoked=["root"]), EndorsementInvalid, "tdx.pck-chain",
    ),
    "outer certification type": (lambda c: c.patched(764, b"\5"), MalformedEvidence, "tdx.quote"),
    "inner size one short": (
        lambda c: c.shorter_certification(), MalformedEvidence, "tdx.quote",
    ),
    "tcbType 1": (
        lambda c: c.endorsed(tcb_info={"tcbType": 1}), MalformedEvidence, "tdx.tcb-info",
    ),
    "QE identity version 3": (
        lambda c: c.endorsed(qe_identity={"version": 3}), MalformedEvidence, "tdx.qe-identity",
    ),
    "tcbStatus left out": (
        lambda c: c.endorsed(tcb_info={"tcbLevels": [
            {k: v for k, v in c.intel.level("UpToDate").items() if k != "tcbStatus"}
        ]}),
        MalformedEvidence, "tdx.tcb-info",
    ),
    "no levels": (
        lambda c: c.endorsed(tcb_info={"tcbLevels": []}), MalformedEvidence, "tdx.tcb-info",
    ),
    "tcbInfo with a space added": (
        lambda c: c.resigned(lambda t: t.replace(":", ": ", 1)), SignatureInvalid, "tdx.tcb-info",
    ),
    "tcbInfo with sorted keys": (
        lambda c: c.resigned(
            lambda t: json.dumps(json.loads(t), sort_keys=True, separators=(",", ":"))
        ),
        SignatureInvalid, "tdx.tcb-info",
    ),
    "deep JSON (CWE-674)": (
        lambda c: c.resigned(lambda t: "[" * 100_000), MalformedEvidence, "tdx.tcb-info",
    ),
    "issueDate in the future": (
        lambda c: c.endorsed(tcb_info={"issueDate": "2030-01-01T00:00:00Z"}),
        EndorsementUnavailable, "tdx.tcb-info",
    ),
    "certificate not yet valid": (
        lambda c: c.made(certificates={"pck": {"not_before": c.forge.at + DAY}}),
        EndorsementUnavailable, "tdx.pck-chain",
    ),
    "module that Intel does not describe": (
        lambda c: c.quoted(tee_tcb_svn=bytes([11, 9, 4, *([0] * 13)])), TcbRejected, "tdx.module",
    ),
    "revoked module": (lambda c: c.endorsed(module_status="Revoked"), TcbRejected, "tdx.tcb"),
    "revoked quoting enclave": (lambda c: c.endorsed(qe_status="Revoked"), TcbRejected, "tdx.tcb"),
    "Platform CA's certificate without its configuration": (
        lambda c: c.made(platform={"configuration": None}), MalformedEvidence, "tdx.pck-chain",
    ),
    "tail of the QE report data": (
        lambda c: c.quoted(qe={"report_data": bytes(63) + b"\1"}), BindingMismatch,
        "tdx.attestation-key",
    ),
    "certification data without a chain": (
        lambda c: c.quoted(quote={"certification_type": 2, "certification_data": bytes(404)}),
        EndorsementUnavailable, "tdx.pck-chain",
    ),
}  # fmt: skip
CASES = NAMES | LEARNT


@pytest.mark.parametrize("name", CASES)
def test_refused(make_forge, name):
    break_it, error, check = CASES[name]
    case = Case(make_forge)
    with pytest.raises(error) as caught:
        case.verify_broken(break_it)
    assert caught.value.id == check
    if error is not TeeVerifyError:
        assert type(caught.value) is error


def test_unsorted_levels_are_sorted(make_forge):
    """Not refused but right, where others answer by the order in the JSON."""
    forge = make_forge()
    info = json.loads(forge.intel.collateral(tcb_status="OutOfDate")["tcb_info"])
    for levels in (info["tcbLevels"], info["tcbLevels"][::-1]):
        claims = forge.verify(None, forge.endorsements(tcb_info={"tcbLevels": levels}))
        assert claims.tcb_status == "OutOfDate"

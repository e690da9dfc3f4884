"""What each check of a TDX verification proves, in the order in which the checks are made."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["CHECKS", "SEPARATE_CHECKS"]

_FRESH = "Fetch fresh endorsements, or verify at the time when the evidence was recorded."

CHECKS: tuple[Check, ...] = (
    Check(
        id="tdx.quote",
        claim="cpu",
        proves="The bytes have the form of an Intel quote of a version and kind known here.",
        fix="Pass the quote as raw bytes, whole and unchanged; a shortened or re-encoded quote "
        "cannot be read.",
    ),
    Check(
        id="tdx.root-crl",
        claim="cpu",
        proves="Intel's root key signed the list of revoked authorities, and it is in force.",
        fix=_FRESH,
    ),
    Check(
        id="tdx.pck-chain",
        claim="cpu",
        proves="Intel's Platform or Processor CA, which is not revoked, certified this CPU's key "
        "and security versions.",
        fix="A chain to another root is not Intel's: do not use this machine. Out of its dates: "
        "verify at the time when the evidence was recorded.",
    ),
    Check(
        id="tdx.pck-crl",
        claim="cpu",
        proves="The list of revoked CPUs, by the CA that certified this one, is in force, and this "
        "CPU is not on it.",
        fix=f"Revoked: do not use this machine. Otherwise: {_FRESH[0].lower()}{_FRESH[1:]}",
    ),
    Check(
        id="tdx.tcb-info",
        claim="cpu_firmware",
        proves="Intel's TCB signing key, which is not revoked, signed the list of security levels, "
        "and it is in force.",
        fix=_FRESH,
    ),
    Check(
        id="tdx.qe-identity",
        claim="cpu_firmware",
        proves="Intel's TCB signing key signed the description of its quoting enclave, and it is "
        "in force.",
        fix=_FRESH,
    ),
    Check(
        id="tdx.qe-report-signature",
        claim="cpu",
        proves="This very CPU reported the quoting enclave that made the quote.",
        fix="The quote was changed, or its certificates belong to another machine: get a new one.",
    ),
    Check(
        id="tdx.attestation-key",
        claim="cpu",
        proves="The key that signs the quote is the one of the enclave that this CPU reported.",
        fix="The quote was changed, or put together from several: get a new one.",
    ),
    Check(
        id="tdx.qe-identity-match",
        claim="cpu",
        proves="The quoting enclave is Intel's own.",
        fix="Do not use this machine: other software than Intel's made its quotes.",
    ),
    Check(
        id="tdx.quote-signature",
        claim="cpu",
        proves="Every byte of the quote's header and body is what the quoting enclave signed.",
        fix="The quote was changed on the way: get a new one.",
    ),
    Check(
        id="tdx.fmspc",
        claim="cpu_firmware",
        proves="The list of security levels is the one for this model of CPU.",
        fix="Supply the TCB info for the FMSPC that the message names.",
    ),
    Check(
        id="tdx.module",
        claim="cpu_firmware",
        proves="The TDX module that isolates the VM is one that Intel made and describes.",
        fix="Do not use this machine; only its operator can put another TDX module on it.",
    ),
    Check(
        id="tdx.tcb",
        claim="cpu_firmware",
        proves="Intel states a security level for this CPU, its TDX module and its quoting "
        "enclave, and has not revoked it. Whether it is current is for the policy to say.",
        fix="Do not use this machine; only its operator can update it.",
    ),
    Check(
        id="tdx.debug-disabled",
        claim="cpu",
        proves="The VM does not run in debug mode, in which its host can read and change it.",
        fix="The operator must launch the VM without debug mode.",
    ),
)

SEPARATE_CHECKS: tuple[Check, ...] = (
    Check(
        id="tdx.endorsements",
        claim="cpu",
        proves="The endorsements that were supplied have a form that is known here.",
        fix="Supply dcap-qvl's JSON, or a directory of Intel's answers.",
    ),
    Check(
        id="tdx.evaluation-numbers",
        claim="cpu_firmware",
        proves="Intel's TCB signing key signed the list of its data sets, and it is in force.",
        fix=_FRESH,
    ),
    Check(
        id="tdx.ra-tls",
        claim="channel",
        proves="The key of an RA-TLS certificate is the one that the TDX quote in it vouches for.",
        fix="Do not use this connection; a certificate without a quote, or for another key, shows "
        "nothing.",
    ),
    Check(
        id="code.event-log",
        claim="code",
        proves="The event log, replayed, gives exactly the measurement registers in the quote.",
        fix="The log was changed or belongs to another boot: get both again, together.",
    ),
    Check(
        id="code.compose",
        claim="code",
        proves="The configuration shown is, byte for byte, the one that this VM was started with.",
        fix="Hash the text exactly as it was served; if it still differs, the VM runs another one.",
    ),
)

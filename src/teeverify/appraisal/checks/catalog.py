"""Every check by id: its claim, what it proves, what to do. Docs and ``explain`` read this."""

from __future__ import annotations

from collections.abc import Mapping

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.checks.catalog_dialects import DIALECT_CHECKS
from teeverify.appraisal.checks.catalog_snp import SNP_CHECKS
from teeverify.encoding.checks import Check

__all__ = ["CATALOG"]

_OWN = (
    Check(
        id="source",
        claim="key",
        proves="The source has one of the forms that are read here, and only one.",
        fix="Pass a recorded directory, a quote, GPU evidence, or a report with --dialect NAME.",
    ),
    Check(
        id="capture",
        claim="key",
        proves="The directory is a recording with exactly one provider's report.",
        fix="Record the provider's answer again, or name its dialect with --dialect NAME.",
    ),
    Check(
        id="capture.exchange",
        claim="key",
        proves="Every recorded HTTP exchange has a form that is read here.",
        fix="Keep each answer's exact bytes beside the record of its exchange.",
    ),
    Check(
        id="report",
        claim="key",
        proves="The provider's report has every field that its dialect demands.",
        fix="Record the provider's answer again, whole; a field is missing or of another form.",
    ),
    Check(
        id="kind",
        claim="key",
        proves="The source is evidence of an endpoint, or what you asked to have appraised.",
        fix="Give the endpoint's whole report, or type --for evidence to appraise a bare part.",
    ),
    Check(
        id="roots",
        claim="cpu",
        proves="Every chain leads to a vendor's root key that ships with teeverify.",
        fix="Verify under the vendors' roots: under any other nothing of theirs is proven, and "
        "test roots are for tests only.",
    ),
    Check(
        id="time",
        claim="fresh",
        proves="The time of the appraisal is yours, not the source's own.",
        fix="Pass --at TIME, if you know when the evidence was made.",
    ),
    Check(
        id="clock.behind",
        claim="fresh",
        proves="Your clock is not behind the newest thing that was ever verified here.",
        fix="Set your clock; a clock that is behind makes old evidence look current.",
    ),
    Check(
        id="code.changed",
        claim="code",
        proves="The endpoint runs the code that it ran when this machine first saw it.",
        fix="Ask the operator what changed; 'teeverify policy pin' accepts the new code.",
    ),
    Check(
        id="answer.replayed",
        claim="fresh",
        proves="This signed text was not accepted before, in this or another session.",
        fix="Do not use the answer a second time; ask again.",
    ),
    Check(
        id="key.leaked",
        claim="key",
        proves="No two signatures that were seen here give away the private key that made them.",
        fix="Believe nothing that this key signed: anybody may have it. Tell the operator that the "
        "enclave's random numbers repeat.",
    ),
    Check(
        id="freshness.nonce",
        claim="fresh",
        proves="The evidence was made after you chose the nonce.",
        fix="Pass the nonce that you sent (--nonce), or ask for evidence with a new random one; "
        "cached evidence shows nothing of now.",
    ),
    Check(
        id="tdx.tcb-status",
        claim="cpu_firmware",
        proves="Intel's status of this platform's firmware is one that the policy accepts.",
        fix="Only the operator can update the platform; or accept the status by name.",
    ),
    Check(
        id="tdx.attributes",
        claim="cpu",
        proves="The TD's attributes open no way in: no profiling, no migration, no service TD.",
        fix="The operator must launch the TD with other attributes.",
    ),
    Check(
        id="tdx.xfam",
        claim="cpu",
        proves="The TD has only extended features that the TDX module defines, and that you "
        "listed if you listed any.",
        fix="The operator must launch the TD with other features, or list what you expect.",
    ),
    Check(
        id="tdx.measurements",
        claim="code",
        proves="Each register that your policy lists has one of the values listed.",
        fix="The TD runs something else: compare with what the operator published.",
    ),
    Check(
        id="tdx.platform-configuration",
        claim="cpu_firmware",
        proves="Intel certifies nothing of the platform's configuration that your policy refuses.",
        fix="Only the operator can configure and register the platform anew.",
    ),
    Check(
        id="tcb.evaluation-number",
        claim="cpu_firmware",
        proves="Intel's data about the platform is new enough, so that the vulnerabilities known "
        "by then count in it.",
        fix="Fetch Intel's data anew: teeverify endorsements fetch.",
    ),
    Check(
        id="platform.listed",
        claim="cpu",
        proves="No platform or GPU is on your deny list, and all are on your allow list.",
        fix="Ask the operator which machine this is, or correct the lists.",
    ),
    Check(
        id="code.identity",
        claim="code",
        proves="All measurements of the machine equal code that you listed.",
        fix="List the expected code: teeverify policy pin SOURCE writes down what is seen.",
    ),
    Check(
        id="code.images-pinned",
        claim="code",
        proves="The measured configuration names every container image by digest.",
        fix="The operator must pin images by @sha256; a tag can be moved to other code.",
    ),
    Check(
        id="code.compose-manager",
        claim="code",
        proves="The compose-manager's log of actions is quoted by this very machine.",
        fix="Ask for the report again; the log must carry its own quote with your nonce.",
    ),
    Check(
        id="gpu.required",
        claim="gpu",
        proves="As many GPUs as the policy demands were verified.",
        fix="Say how many GPUs you expect, and which: gpu.count and gpu.architectures; or "
        "gpu.required = false if none.",
    ),
    Check(
        id="gpu.measurements",
        claim="gpu_firmware",
        proves="The GPUs' driver and VBIOS are NVIDIA's releases.",
        fix="Give NVIDIA's reference manifests (RIMs) with --endorsements PATH, or let them be "
        "fetched; the policy may take the answer of its service (NRAS) instead.",
    ),
    Check(
        id="gpu.device",
        claim="gpu_firmware",
        proves="This device runs NVIDIA's release of the versions that it names.",
        fix="Give NVIDIA's reference manifests (RIMs) with --endorsements PATH, or let them be "
        "fetched: only a comparison shows what runs on the device.",
    ),
    Check(
        id="gpu.revocation",
        claim="gpu_firmware",
        proves="NVIDIA has revoked none of the GPUs' certificates.",
        fix="Give NVIDIA's OCSP answers or revocation lists with --endorsements PATH; what nobody "
        "asked for at the time cannot be had later.",
    ),
    Check(
        id="gpu.binding",
        claim="gpu_link",
        proves="The GPU evidence is tied to the CPU evidence.",
        fix="Use a provider whose quote holds a hash of the GPU evidence (teeverify/1): with an "
        "equal nonce only, GPUs elsewhere can answer.",
    ),
    Check(
        id="gpu.attachment",
        claim="gpu_link",
        proves="Nothing: that the GPU sits in this machine is the attested code's word.",
        fix="Nothing: no vendor can prove it yet (TDISP and SEV-TIO are meant to).",
    ),
    Check(
        id="binding.report-data",
        claim="key",
        proves="The quote commits to this signing key, by the dialect's exact layout.",
        fix="Do not use the answer: another key is bound than the one presented.",
    ),
    Check(
        id="endpoint.bound",
        claim="channel",
        proves="Your TLS connection, or your encrypted request, ends at a key that the attested "
        "machine holds.",
        fix="Connect to the machine yourself where its evidence binds a TLS key, or encrypt to an "
        "attested key; otherwise believe only answers that the attested key signed.",
    ),
    Check(
        id="confidential.request",
        claim="channel",
        proves="Only attested code could read the request.",
        fix="Send the request encrypted to an attested key, where the provider offers it "
        "(encrypt=True).",
    ),
    Check(
        id="confidential.answer",
        claim="channel",
        proves="Only you and attested code could read the answer.",
        fix="Most schemes take the answer's key from a header that nobody protects; end your TLS "
        "connection in the attested machine, or use a scheme that derives it (EHBP, Chutes).",
    ),
    Check(
        id="signer.origin",
        claim="key",
        proves="The machine's key provider, from which its signing key may come, is one that you "
        "listed. That a key was made inside and never left is only its code's word.",
        fix="List the key service if you trust it (signer.key_services), and compare the code as "
        "well: such a key outlives versions of the code.",
    ),
    Check(
        id="key.attested",
        claim="key",
        proves="The key that signed the answer is the one that the evidence binds.",
        fix="Give --attestation: the report of the machine that signed.",
    ),
    Check(
        id="answer.signature",
        claim="answer",
        proves="The answer's signature verifies under the stated key.",
        fix="Do not use the answer: its signature is missing, or not that key's.",
    ),
    Check(
        id="response.hash-equal",
        claim="answer",
        proves="The signature is over exactly these bytes of the answer.",
        fix="Give the exact bytes as received; do not copy text from a screen.",
    ),
    Check(
        id="answer.complete",
        claim="answer",
        proves="The answer is whole: the stream ran to its end.",
        fix="Ask again: the stream broke off.",
    ),
    Check(
        id="answer.signer-role",
        claim="answer",
        proves="The model's own machine signed.",
        fix="Ask the model's own machine: of what it did a gateway's signature shows nothing.",
    ),
    Check(
        id="answer.fresh",
        claim="answer",
        proves="The signed text names a challenge of yours, so the answer is no replay.",
        fix="Ask again yourself, in a dialect that signs a challenge (teeverify/1); most sign "
        "none. Do not use an answer that names another one.",
    ),
    Check(
        id="answer.attested-later",
        claim="fresh",
        proves="The evidence is not younger than the answer.",
        fix="Attest before asking, and pass --at TIME if you know when that was; or accept later "
        "evidence with --allow-attested-later DAYS.",
    ),
    Check(
        id="session.age",
        claim="fresh",
        proves="The evidence was young enough when the answer was made.",
        fix="Attest again before asking.",
    ),
    Check(
        id="receipt.time",
        claim="fresh",
        proves="By the time of the timestamp the receipt was there, as it is.",
        fix="Have it timestamped (docs/receipts.md), and name the authority's roots with "
        "--timestamp-roots.",
    ),
    Check(
        id="receipt.since",
        claim="key",
        proves="Nothing that the receipt rests on was revoked by now.",
        fix="Verify it online, or with today's lists; what was revoked is no longer believed.",
    ),
    Check(
        id="request.bound",
        claim="request",
        proves="The answer was signed together with the hash of exactly this request.",
        fix="Give the request's exact bytes with --request. That the enclave itself read them is "
        "proven only in dialects in which it makes the hash (teeverify/1).",
    ),
    Check(
        id="http.semantics",
        claim="request",
        proves="Method, target, status and content type are signed too.",
        fix="Ask in a dialect that signs them (teeverify/1); most sign none. Do not use an answer "
        "in which one of them differs.",
    ),
    Check(
        id="model.identity",
        claim="model",
        proves="The model that was asked for is the one that answered.",
        fix="Compare the names, for another model may have been served; list the files that may "
        "be deployed (model.deployments) to have it proven.",
    ),
)

CATALOG: Mapping[str, Check] = {
    check.id: check
    for check in (
        *_OWN,
        *DIALECT_CHECKS,
        *tdx.CHECKS,
        *tdx.SEPARATE_CHECKS,
        *SNP_CHECKS,
        *snp.CHECKS,
        *snp.SEPARATE_CHECKS,
        *snp.AZURE_CHECKS,
        *snp.GOOGLE_CHECKS,
        *nvidia.CHECKS,
        *nvidia.NRAS_CHECKS,
        *nvidia.RIM_CHECKS,
        *nvidia.OCSP_CHECKS,
        *nvidia.CRL_CHECKS,
        *nvidia.TOPOLOGY_CHECKS,
    )
}
"""All checks, by id."""

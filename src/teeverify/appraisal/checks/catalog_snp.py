"""What the appraisal's own checks of AMD SEV-SNP prove."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["SNP_CHECKS"]

SNP_CHECKS: tuple[Check, ...] = (
    Check(
        id="snp.min-tcb",
        claim="cpu_firmware",
        proves="AMD's firmware has the fixes of the bulletins that the policy demands.",
        fix="Only the operator can update the machine; or set your own floor with snp.min_tcb.",
    ),
    Check(
        id="snp.policy",
        claim="cpu",
        proves="The guest's policy and its host leave no way in: no migration agent, no report of "
        "the host's making.",
        fix="The operator must launch the VM with another policy.",
    ),
    Check(
        id="snp.vmpl",
        claim="cpu",
        proves="The software that asked for the report runs at the privilege level you expect.",
        fix="Name the level in snp.vmpls if another layer runs above the VM's software.",
    ),
    Check(
        id="snp.csp",
        claim="cpu",
        proves="The cloud whose key signed the report is one that you named.",
        fix="Name it in snp.csp_ids; its CSP_ID is in the finding.",
    ),
    Check(
        id="snp.platform",
        claim="cpu_firmware",
        proves="The host has the firmware, configuration and mitigations that you named.",
        fix="Only the operator can change the host.",
    ),
    Check(
        id="snp.launch",
        claim="code",
        proves="The VM was launched with the identities, keys and host data that you named.",
        fix="Compare them with what the operator published.",
    ),
    Check(
        id="snp.firmware",
        claim="code",
        proves="The VM started with firmware that its maker endorses. What that firmware boots is "
        "not part of the measurement.",
        fix="Fetch the endorsement with `teeverify endorsements fetch SOURCE --firmware`, and give "
        "it with --endorsements.",
    ),
    Check(
        id="snp.report-data",
        claim="key",
        proves="The report binds exactly a value that you named (REPORT_DATA).",
        fix="The report answers another question, or binds another key: get one with your value.",
    ),
)

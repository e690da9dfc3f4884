"""What each check of a SEV-SNP verification proves, in the order in which the checks are made."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["CHECKS", "CRL", "SEPARATE_CHECKS"]

CRL = "snp.crl"

CHECKS: tuple[Check, ...] = (
    Check(
        id="snp.report",
        claim="cpu",
        proves="The bytes have the form of an AMD attestation report of a version known here.",
        fix="Pass the report as raw bytes, whole and unchanged; a re-encoded report cannot be "
        "read.",
    ),
    Check(
        id="snp.signing-key",
        claim="cpu",
        proves="The report says that a chip's key (VCEK) or a cloud's key (VLEK) signed it.",
        fix="The host keeps the firmware from signing (MASK_CHIP_KEY): its operator must change "
        "that.",
    ),
    Check(
        id="snp.product",
        claim="cpu",
        proves="The CPU is of a product whose root key and encodings are known here.",
        fix="Milan, Genoa (with Bergamo and Siena) and Turin are known; another product needs a "
        "newer version of this program.",
    ),
    Check(
        id="snp.ca-chain",
        claim="cpu",
        proves="AMD's root key for this product (ARK) certified the CA above the report's key.",
        fix="A chain to another root is not AMD's: do not use this machine. Out of its dates: "
        "verify at the time when the evidence was recorded.",
    ),
    Check(
        id=CRL,
        claim="cpu",
        proves="AMD's list of revoked CAs, of this time or later, does not name this CA. AMD "
        "revokes no single chips; their firmware versions replace that.",
        fix="Revoked: do not use this machine. Otherwise: supply AMD's list; a later one answers "
        "for an earlier time too.",
    ),
    Check(
        id="snp.leaf",
        claim="cpu",
        proves="AMD's CA for this product certified the key of this chip (VCEK) or cloud (VLEK).",
        fix="Supply the certificate that AMD issued for the report's chip and TCB, or that the "
        "host gives beside the report.",
    ),
    Check(
        id="snp.leaf-tcb",
        claim="cpu_firmware",
        proves="AMD certified the key for exactly the firmware versions that the report states.",
        fix="Supply the certificate for the report's REPORTED_TCB.",
    ),
    Check(
        id="snp.chip-id",
        claim="cpu",
        proves="The key is that of the very chip that the report names, where it names one.",
        fix="The certificate belongs to another chip: supply the one of this chip.",
    ),
    Check(
        id="snp.report-signature",
        claim="cpu",
        proves="Every field of the report is what the certified key signed.",
        fix="The report was changed on the way: get a new one.",
    ),
    Check(
        id="snp.tcb-order",
        claim="cpu_firmware",
        proves="The firmware versions of the report do not contradict each other.",
        fix="Do not use this machine: its firmware states versions that it cannot have.",
    ),
    Check(
        id="snp.debug-disabled",
        claim="cpu",
        proves="The VM does not allow debugging, by which its host could read and change it.",
        fix="The operator must launch the VM with a policy that forbids debugging.",
    ),
)

SEPARATE_CHECKS: tuple[Check, ...] = (
    Check(
        id="snp.endorsements",
        claim="cpu",
        proves="The endorsements that were supplied have a form that is known here.",
        fix="Supply certificates (PEM or DER), AMD's revocation lists, or a certificate table.",
    ),
    Check(
        id="snp.certificate-table",
        claim="cpu",
        proves="The table of certificates that came with the report can be read in one way only.",
        fix="Take the table from the guest again, or supply the certificates as files.",
    ),
    Check(
        id="snp.id-block",
        claim="code",
        proves="The guest was launched with exactly this ID block, signed by the keys that the "
        "report names.",
        fix="Take block and information from the launch of this very guest.",
    ),
    Check(
        id="measure.ovmf",
        claim="code",
        proves="The firmware's image has the tables from which its measurement is computed.",
        fix="Give the image of OVMF itself, whole, as the host launches it.",
    ),
    Check(
        id="snp.container",
        claim="cpu",
        proves="Exactly one report is in the container that it came in.",
        fix="Pass the raw report of 1184 bytes.",
    ),
)

"""The rows and parameters of the table that are about AMD SEV-SNP."""

from __future__ import annotations

from teeverify.appraisal.rows import Parameter, Row

__all__ = ["SNP_PARAMETERS", "SNP_ROWS"]

_COMPONENT = r"(?:fmc|bootloader|tee|snp|microcode)=[0-9]{1,3}"
_CONCERNS = "migrate_ma|host_made|smt|cxl|provisional|masked_chip_id"
_FATAL = ["migrate_ma", "host_made"]
_WARNED = ["smt", "cxl", "provisional", "masked_chip_id"]
_RESTRICTIONS = "single_socket|mem_aes_256_xts|rapl_disabled|ciphertext_hiding|page_swap_disabled"
_PLATFORM = "smt|tsme|ecc|rapl_disabled|ciphertext_hiding|alias_check_complete|tio"
_ID_16 = "[0-9a-fA-F]{32}"
_DIGEST_32 = "[0-9a-fA-F]{64}"
_DIGEST_48 = "[0-9a-fA-F]{96}"
_BYTES_64 = "[0-9a-fA-F]{128}"
_TCB = rf"(?:Milan|Genoa|Turin)(?: {_COMPONENT})+"


def _wish(name: str, form: str, asks: str) -> Parameter:
    """A list that is the user's own expectation."""
    return Parameter(name=name, genuine=[], strict=[], wish=True, form=form, asks=asks)


SNP_ROWS: tuple[Row, ...] = (
    Row(
        id="snp.crl",
        genuine="proven",
        strict="proven",
        floor="warn",
        asks="AMD's list of revoked CAs, of that time or later, does not name the CA above the "
        "report's key",
    ),
    Row(
        id="snp.min-tcb",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="AMD's firmware is not older than the floor that ships with teeverify, or than yours",
    ),
    Row(
        id="snp.policy",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the guest's policy and the host's state leave nobody a way in",
    ),
    Row(
        id="snp.vmpl",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the report was asked for at the privilege level that you expect",
    ),
    Row(
        id="snp.csp",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="where a cloud's key (VLEK) signed, it is of a cloud that you named",
    ),
    Row(
        id="snp.platform",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the host has the firmware version, the configuration and the mitigations that you "
        "named, if you named any",
    ),
    Row(
        id="snp.launch",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the guest was launched with the identities, keys and host data that you named, if "
        "you named any",
    ),
    Row(
        id="snp.firmware",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="whoever you named endorses the firmware, if you named anybody; a wrong endorsement "
        "always refuses",
    ),
    Row(
        id="snp.report-data",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the report binds one of the values that you named, if you named any",
    ),
)


SNP_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="snp.min_tcb",
        genuine=[],
        strict=[],
        form=_TCB,
        asks="lowest AMD firmware versions of a product, for example 'Milan snp=29 microcode=219'; "
        "replaces the floor that ships with teeverify for that product",
    ),
    _wish(
        "snp.min_launch_tcb",
        _TCB,
        "lowest AMD firmware versions at the guest's launch, in the same form",
    ),
    Parameter(
        name="snp.tcb_parts",
        genuine=["reported", "committed"],
        strict=["reported", "committed", "launch"],
        form="reported|committed|launch|current",
        asks="which of the report's four TCB versions must reach the floor",
    ),
    Parameter(
        name="snp.newest_fixes",
        genuine=False,
        strict=True,
        item=bool,
        asks="whether AMD firmware without the newest known fixes refuses, or only warns",
    ),
    Parameter(
        name="snp.refused",
        genuine=_FATAL,
        strict=[*_FATAL, *_WARNED],
        form=_CONCERNS,
        asks="what refuses: permissions of the guest's policy (smt, migrate_ma, cxl), a report "
        "that the host asked for (host_made), firmware that is not committed (provisional), and a "
        "VCEK without a chip's name (masked_chip_id); debugging always refuses",
    ),
    Parameter(
        name="snp.warned",
        genuine=_WARNED,
        strict=[],
        form=_CONCERNS,
        asks="what of the same only warns",
    ),
    Parameter(
        name="snp.vmpls",
        genuine=["0"],
        strict=["0"],
        wish=True,
        form="[0-3]",
        asks="privilege levels (VMPL) at which the report may have been asked for; on AWS, level 1 "
        "warns if it is not named",
    ),
    _wish("snp.csp_ids", r"[ -~]{1,100}", "clouds whose VLEK may have signed, by CSP_ID"),
    _wish("snp.required", _RESTRICTIONS, "restrictions that the guest's policy must make"),
    _wish("snp.min_abi", r"[0-9]{1,3}\.[0-9]{1,3}", "lowest ABI that the guest's policy demands"),
    _wish("snp.platform_required", _PLATFORM, "features that must be on (PLATFORM_INFO)"),
    _wish(
        "snp.platform_refused",
        f"{_PLATFORM}|unknown",
        "features that must be off (PLATFORM_INFO); unknown is any bit without a name here",
    ),
    _wish(
        "snp.min_firmware",
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,5}",
        "lowest version of the committed SEV-SNP firmware, for example 1.55.41",
    ),
    _wish(
        "snp.mitigations",
        "[0-9]|[1-5][0-9]|6[0-3]",
        "bits that both mitigation vectors must have; reports before version 5 have none",
    ),
    Parameter(
        name="snp.min_guest_svn",
        genuine=0,
        strict=0,
        wish=True,
        item=int,
        asks="lowest GUEST_SVN of the ID block",
    ),
    _wish(
        "snp.launch_required",
        "id_block|author_key",
        "what the launch must have had, whoever's: an ID block, or an author key over its key",
    ),
    _wish("snp.firmware_by", "Google", "whose endorsement of the VM's firmware is needed"),
    _wish("snp.report_data", _BYTES_64, "REPORT_DATA accepted, all 64 bytes in hex"),
    _wish("snp.report_ids", _DIGEST_32, "REPORT_IDs accepted, in hex: one launch of one guest"),
    _wish("snp.report_ids_ma", _DIGEST_32, "REPORT_ID_MAs (migration agents) accepted, in hex"),
    _wish("snp.family_ids", _ID_16, "FAMILY_IDs accepted, in hex"),
    _wish("snp.image_ids", _ID_16, "IMAGE_IDs accepted, in hex"),
    _wish("snp.host_data", _DIGEST_32, "HOST_DATA accepted, in hex"),
    _wish("snp.id_key_digests", _DIGEST_48, "digests of the keys that may sign ID blocks, in hex"),
    _wish(
        "snp.author_key_digests",
        _DIGEST_48,
        "digests of the author keys that may certify those keys, in hex",
    ),
)

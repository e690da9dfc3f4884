"""How far behind a machine is, and what its operator must do, in words.

Whoever reads a verdict cannot update the machine; whoever can needs to know which part to update.
"""

from __future__ import annotations

from collections.abc import Iterable

from teeverify.tdx.tcb import MissingSvn, TcbGap

__all__ = ["describe_gap", "remedies"]

_PARTS = {
    "sgx": "SGX component",
    "tdx": "TDX component",
    "pce": "PCE",
    "module": "TDX module",
    "qe": "TD quoting enclave",
}
# What Intel calls a component (sgxtcbcomponents and tdxtcbcomponents, "type"), and what changes it.
_BY_LABEL = (
    ("early microcode", "a BIOS with newer microcode"),
    ("late microcode", "newer microcode, loaded by the operating system"),
    ("seamldr", "a newer SEAM loader (SEAMLDR ACM), usually with the BIOS"),
    ("sinit", "a newer SINIT ACM, usually with the BIOS"),
    ("tdx module", "a newer TDX module"),
    ("bios", "a newer BIOS"),
)
_BY_PART = {
    "sgx": "a newer BIOS and microcode",
    "tdx": "a newer TDX module and microcode",
    "pce": "newer platform software (the PCE), and a PCK certificate fetched anew",
    "module": "a newer TDX module",
    "qe": "a newer quoting enclave (Intel's DCAP packages)",
}
_NEW_CERTIFICATE = "a PCK certificate fetched anew after the update"


def describe_gap(gap: TcbGap, advisory_ids: Iterable[str] = ()) -> str:
    """Say which parts are behind, by how much, since when, and which advisories apply.

    Args:
        gap: What is missing.
        advisory_ids: Intel's advisories for the levels that the machine matches.
    """
    parts = "; ".join(_one(missing) for missing in gap.missing)
    named = ", ".join(advisory_ids)
    return (
        f"{parts}; Intel's fixes are of {gap.since:%Y-%m-%d}, "
        f"the first one missed of {gap.first_missed:%Y-%m-%d}"
        + (f"; advisories {named}" if named else "")
    )


def _one(missing: MissingSvn) -> str:
    where = _PARTS[missing.part]
    if missing.index is not None:
        where += f" {missing.index}"
    if missing.label and missing.label.lower() != _PARTS[missing.part].lower():
        where += f" ({ascii(missing.label[:60])[1:-1]})"
    return f"{where} has {missing.has}, needs {missing.needs}"


def remedies(gap: TcbGap) -> tuple[str, ...]:
    """What the operator must install, each thing once, in the order of what is missing."""
    found = [_remedy(missing) for missing in gap.missing]
    if any(missing.part == "sgx" for missing in gap.missing):
        found.append(_NEW_CERTIFICATE)
    return tuple(dict.fromkeys(found))


def _remedy(missing: MissingSvn) -> str:
    label = missing.label.lower()
    for words, remedy in _BY_LABEL:
        if missing.part in ("sgx", "tdx") and words in label:
            return remedy
    return _BY_PART[missing.part]

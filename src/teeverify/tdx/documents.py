"""What Intel's certification service signs in JSON: TCB info, QE identity, and numbers.

The exact text that Intel signed is kept; the fields (read in :mod:`teeverify.tdx.documents_form`)
are untrusted until :mod:`teeverify.tdx.verify` has checked the signature over that text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from teeverify.tdx.status import TcbStatus

__all__ = [
    "ComponentLevel",
    "EvaluationNumbers",
    "ModuleIdentity",
    "QeIdentity",
    "TcbInfo",
    "TcbLevel",
    "Tee",
]

Tee: TypeAlias = Literal["SGX", "TDX"]
TCB_INFO = "tdx.tcb-info"
QE_IDENTITY = "tdx.qe-identity"
EVALUATION_NUMBERS = "tdx.evaluation-numbers"
COMPONENTS = 16


class TcbLevel(NamedTuple):
    """One level of a platform's TCB.

    Attributes:
        sgx: The 16 least SVNs of the CPU's components, one byte each.
        pce_svn: Least SVN of the provisioning certification enclave.
        tdx: The 16 least SVNs in ``tee_tcb_svn``; all zero for SGX.
        sgx_labels: What Intel calls the components of ``sgx``; empty where it says nothing.
        tdx_labels: The same for ``tdx``.
        tcb_date: The date up to which published vulnerabilities are fixed at this level.
        status: What a platform at this level is.
        advisory_ids: Intel's advisories that apply at this level.
    """

    sgx: bytes
    pce_svn: int
    tdx: bytes
    sgx_labels: tuple[str, ...]
    tdx_labels: tuple[str, ...]
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


class ComponentLevel(NamedTuple):
    """One level of the TDX module or of the quoting enclave, which have one SVN each.

    Attributes:
        isv_svn: Least SVN.
        tcb_date: The date up to which published vulnerabilities are fixed at this level.
        status: What a component at this level is.
        advisory_ids: Intel's advisories that apply at this level.
    """

    isv_svn: int
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


class ModuleIdentity(NamedTuple):
    """One TDX module that Intel describes.

    Attributes:
        id: ``TDX_`` and the major version in two hexadecimal digits, upper case; empty for the
            module of major version 0.
        mr_signer: Who signed the module.
        attributes: Its attributes, where the mask has ones.
        attributes_mask: Which attributes must be equal.
        levels: Its TCB levels, highest first; none for the module of major version 0, whose SVN is
            a component of the platform's levels.
    """

    id: str
    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[ComponentLevel, ...]


class TcbInfo(NamedTuple):
    """Intel's TCB info of one platform model.

    Attributes:
        signed: The exact text that is signed.
        signature: Over ``signed``, ``r || s``.
        issuer_chain: The signer's chain in PEM, or ``None`` where none came with it.
        tee: Which kind of TEE it is about.
        issue_date: When Intel made it.
        next_update: When it must be replaced.
        fmspc: Family, model, stepping, platform type and custom SKU.
        pce_id: Which provisioning certification enclave.
        evaluation_data_number: Intel's number of the data set; higher is newer.
        module: The TDX module of major version 0; ``None`` for SGX.
        modules: The TDX modules of higher major versions.
        levels: TCB levels, highest first.
    """

    signed: bytes
    signature: bytes
    issuer_chain: bytes | None
    tee: Tee
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    evaluation_data_number: int
    module: ModuleIdentity | None
    modules: tuple[ModuleIdentity, ...]
    levels: tuple[TcbLevel, ...]


class QeIdentity(NamedTuple):
    """Intel's identity of its quoting enclave.

    Attributes:
        signed: The exact text that is signed.
        signature: Over ``signed``, ``r || s``.
        issuer_chain: The signer's chain in PEM, or ``None`` where none came with it.
        tee: Which kind of TEE the enclave quotes.
        issue_date: When Intel made it.
        next_update: When it must be replaced.
        evaluation_data_number: Intel's number of the data set; higher is newer.
        misc_select: MISCSELECT, where the mask has ones.
        misc_select_mask: Which bits must be equal.
        attributes: ATTRIBUTES, where the mask has ones.
        attributes_mask: Which bits must be equal.
        mr_signer: Who signed the enclave.
        isv_prod_id: Which product of that signer.
        levels: TCB levels, highest first.
    """

    signed: bytes
    signature: bytes
    issuer_chain: bytes | None
    tee: Tee
    issue_date: datetime
    next_update: datetime
    evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[ComponentLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationNumbers:
    """Intel's list of its data sets, one for each TCB recovery.

    Attributes:
        signed: The exact text that is signed.
        signature: Over ``signed``, ``r || s``.
        issuer_chain: The signer's chain in PEM, or ``None`` where none came with it.
        tee: Which kind of TEE it is about.
        issue_date: When Intel made it.
        next_update: When it must be replaced.
        recoveries: The numbers, highest first, and when each recovery was made public.
    """

    signed: bytes
    signature: bytes
    issuer_chain: bytes | None
    tee: Tee
    issue_date: datetime
    next_update: datetime
    recoveries: tuple[tuple[int, datetime], ...]

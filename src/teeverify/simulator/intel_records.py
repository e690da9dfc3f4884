"""Writing a fake Intel's endorsements the ways in which people keep the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote as percent_encode

__all__ = ["write_capture", "write_plain"]

_PCS = "https://api.trustedservices.intel.com"
_ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


def write_capture(folder: Path, collateral: Mapping[str, str], *, first: int = 1) -> None:
    """Write endorsements as recorded exchanges (``NNNN_*.body`` with ``NNNN_*.http.json``).

    Args:
        folder: An existing directory.
        collateral: What :meth:`Intel.collateral` made.
        first: Number of the first exchange.
    """
    info = json.loads(collateral["tcb_info"])
    tee = info["id"].lower()
    ca = "processor" if "Processor" in _issuer_of(collateral) else "platform"
    exchanges: list[tuple[str, bytes, dict[str, str]]] = [
        (
            f"{_PCS}/{tee}/certification/v4/tcb?fmspc={info['fmspc']}",
            _signed(collateral, "tcb_info", "tcbInfo"),
            {"Tcb-Info-Issuer-Chain": collateral["tcb_info_issuer_chain"]},
        ),
        (
            f"{_PCS}/{tee}/certification/v4/qe/identity",
            _signed(collateral, "qe_identity", "enclaveIdentity"),
            {"Sgx-Enclave-Identity-Issuer-Chain": collateral["qe_identity_issuer_chain"]},
        ),
        (
            f"{_PCS}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der",
            bytes.fromhex(collateral["pck_crl"]),
            {"Sgx-Pck-Crl-Issuer-Chain": collateral["pck_crl_issuer_chain"]},
        ),
        (_ROOT_CRL_URL, bytes.fromhex(collateral["root_ca_crl"]), {}),
    ]
    for number, (url, body, headers) in enumerate(exchanges, first):
        stem = f"{number:04d}_{url.split('/')[-1].split('?')[0].lower()}"
        record = {
            "method": "GET",
            "url": url,
            "status": 200,
            "headers": {name: [percent_encode(value)] for name, value in headers.items()},
        }
        (folder / f"{stem}.body").write_bytes(body)
        (folder / f"{stem}.http.json").write_text(json.dumps(record))


def write_plain(folder: Path, collateral: Mapping[str, str]) -> None:
    """Write endorsements as plain files of raw answers.

    Args:
        folder: An existing directory.
        collateral: What :meth:`Intel.collateral` made.
    """
    fmspc = json.loads(collateral["tcb_info"])["fmspc"]
    info = _signed(collateral, "tcb_info", "tcbInfo")
    (folder / f"tcb_info_{fmspc}.json").write_bytes(info)
    identity = _signed(collateral, "qe_identity", "enclaveIdentity")
    (folder / "td_qe_identity.json").write_bytes(identity)
    (folder / "tcb_signing_chain.pem").write_text(collateral["tcb_info_issuer_chain"])
    (folder / "qe_identity_signing_chain.pem").write_text(collateral["qe_identity_issuer_chain"])
    (folder / "root_ca_crl.der").write_bytes(bytes.fromhex(collateral["root_ca_crl"]))
    (folder / "pck_crl.der").write_bytes(bytes.fromhex(collateral["pck_crl"]))


def _issuer_of(collateral: Mapping[str, str]) -> str:
    return bytes.fromhex(collateral["pck_crl"]).decode("latin-1")


def _signed(collateral: Mapping[str, str], name: str, member: str) -> bytes:
    text, signature = collateral[name], collateral[f"{name}_signature"]
    return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()

"""Azure confidential VMs: the paravisor's envelope and the virtual TPM's quote.

The envelope is from boot and names the TPM's attestation key; the quote by that key answers. What
is asked is 64 bytes, what a TPM signs is less, so their SHA-256 is the quote's nonce. Intel's quote
and AMD's certificates come from Azure's metadata service, which only the VM can reach.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from teeverify import tdx
from teeverify.azure.envelope import HclReport, parse_hcl_report
from teeverify.azure.vtpm import parse_tpm_quote
from teeverify.enclave.tee.machine import Quote
from teeverify.enclave.tee.tpm import DEVICE, Tpm
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes
from teeverify.errors import EndpointUnavailable, MalformedEvidence, TeeVerifyError

__all__ = ["ASSET_TAG", "AzureVm", "Fetch", "ask_metadata_service", "is_here"]

ASSET_TAG = Path("/sys/class/dmi/id/chassis_asset_tag")
_AZURE = "7783-7084-3265-9085-8269-3286-77"
_ENVELOPE, _KEY = 0x01400001, 0x81000003
_SERVICE = "169.254.169.254"
_TD_QUOTE, _CERTIFICATES = "/acc/tdquote", "/metadata/THIM/amd/certification"
_ID = "endpoint.devices"
_SECONDS, _LARGEST, _OK = 30.0, 256 * 1024, 200
_TRIES = 3
_REPORT_DATA = slice(128, 192)  # of a TDREPORT

Fetch = Callable[[str, "bytes | None"], bytes]
"""Asks the metadata service: a path, and the JSON to post, if any."""


def is_here(tag: Path = ASSET_TAG, device: Path = DEVICE) -> bool:
    """Whether this is an Azure VM with the envelope of a confidential one.

    A TPM that cannot be asked counts: opening it says why.
    """
    try:
        if tag.read_text(encoding="ascii").strip() != _AZURE or not device.exists():
            return False
    except (OSError, UnicodeDecodeError):
        return False
    try:
        with Tpm(device) as tpm:
            return tpm.nv_size(_ENVELOPE) is not None
    except EndpointUnavailable:
        return True


def ask_metadata_service(path: str, body: bytes | None) -> bytes:
    """Ask Azure's metadata service; its address is the same in every VM, and link-local.

    Raises:
        EndpointUnavailable: It does not answer.
    """
    connection = http.client.HTTPConnection(_SERVICE, timeout=_SECONDS)
    headers = {"Metadata": "true", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read(_LARGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise _refused("its metadata service does not answer", f"{path}: {reason}") from None
    finally:
        connection.close()
    if response.status != _OK or len(answer) > _LARGEST:
        raise _refused("its metadata service refuses", f"{path}: status {response.status}")
    return answer


class AzureVm:
    """A confidential VM of Azure.

    Its evidence is one JSON text, as attestation agents send it.

    Args:
        device: The virtual TPM.
        fetch: Asks the metadata service.

    Raises:
        EndpointUnavailable: The TPM cannot be opened, or holds no envelope.
    """

    def __init__(self, device: Path = DEVICE, fetch: Fetch = ask_metadata_service) -> None:
        self._device = device
        self._fetch = fetch
        with Tpm(device) as tpm:
            raw = tpm.nv_read(_ENVELOPE)
        self._kind, hcl = _read_envelope(raw)
        self.platform = f"azure-{self._kind}"
        # Both are of this boot, as the envelope is.
        beside = self._intel(hcl) if self._kind == "tdx" else self._amd()
        self._boot = {"hcl_report" if self._kind == "tdx" else "report": list(raw), **beside}

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.tee.machine.CpuSource`."""
        nonce = hashlib.sha256(report_data).digest()
        for _ in range(_TRIES):
            with Tpm(self._device) as tpm:
                pcrs = tpm.pcrs()
                message, signature = tpm.quote(_KEY, nonce)
            try:
                found = parse_tpm_quote(message)
            except MalformedEvidence as error:
                raise _refused("its TPM gives another form of quote", error.message) from None
            if found.extra_data != nonce:
                raise _refused("its TPM answers another question", found.extra_data.hex())
            # A PCR may be extended between the two commands.
            if found.pcr_digest == hashlib.sha256(b"".join(pcrs)).digest():
                return Quote(quote=self._evidence(message, signature, pcrs))
        raise _refused("its PCRs change all the time", f"{_TRIES} attempts")

    def _evidence(self, message: bytes, signature: bytes, pcrs: tuple[bytes, ...]) -> bytes:
        quote = {
            "message": list(message),
            "signature": list(signature),
            "pcrs": [list(pcr) for pcr in pcrs],
        }
        name = "tpm_quote" if self._kind == "tdx" else "quote"
        return json.dumps({**self._boot, name: quote}).encode("ascii")

    def _intel(self, hcl: HclReport) -> Mapping[str, object]:
        asked = base64.urlsafe_b64encode(hcl.report).rstrip(b"=").decode("ascii")
        text = self._ask(_TD_QUOTE, json.dumps({"report": asked}).encode("ascii"), "quote")
        try:
            quote = base64_bytes(text.rstrip("="), field="azure.quote", id=_ID, url=True)
            bound = tdx.parse_quote(quote).report_data
        except TeeVerifyError as error:
            raise _refused("its metadata service gives no quote", error.message) from None
        if bound != hcl.report[_REPORT_DATA]:
            raise _refused("Intel's quote is of another report than the envelope's", bound.hex())
        return {"td_quote": list(quote)}

    def _amd(self) -> Mapping[str, object]:
        return {"vcek": self._ask(_CERTIFICATES, None, "vcekCert")}

    def _ask(self, path: str, body: bytes | None, member: str) -> str:
        try:
            return JsonObject.parse(self._fetch(path, body), path="azure", id=_ID).text(member)
        except MalformedEvidence as error:
            raise _refused("its metadata service answers otherwise", error.message) from None


def _read_envelope(raw: bytes) -> tuple[str, HclReport]:
    try:
        return "tdx", parse_hcl_report(raw, "tdx")
    except TeeVerifyError:
        pass
    try:
        return "snp", parse_hcl_report(raw, "snp")
    except TeeVerifyError as error:
        raise _refused("its envelope has another form", error.message) from None


def _refused(what: str, got: str) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"this Azure VM gives no evidence: {what}", id=_ID, got=ascii(got)[:160]
    )

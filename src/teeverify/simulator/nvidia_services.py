"""Fake services of NVIDIA: an OCSP responder, the RIM service, and NRAS with its list of keys.

Each is a pure function from a request to an answer, so whoever wants sockets puts a server in
front. NRAS verifies what is posted, as the real one does; every answer can be set wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from teeverify import nvidia
from teeverify.clock import now
from teeverify.errors import TeeVerifyError
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.authority import Authority
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.nvidia_chips import Chip
from teeverify.simulator.ocsp import ocsp_answer
from teeverify.simulator.rim import rim_answer

__all__ = ["NvidiaServices", "Reply"]

_JSON = "application/json"
_OCSP = "application/ocsp-response"
_RIM_PATH = "/v1/rim/"
_JWKS_PATH = "/.well-known/jwks.json"
# What NRAS says where evidence does not pass, by the check that refuses it here.
_ERRORS: Mapping[str, tuple[int, str]] = {
    "gpu.nonce": (4010, "NONCE_NOT_MATCHING"),
    "gpu.report-signature": (4013, "INVALID_EVIDENCE_SIGNATURE"),
    "gpu.chain": (4014, "INVALID_ATTESTATION_CHAIN"),
}
_OTHER_ERROR = (4007, "INVALID_EVIDENCE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer."""

    status: int = 200
    content_type: str = _JSON
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class NvidiaServices:
    """NVIDIA's services about the devices and manifests of one fake NVIDIA.

    Args:
        vendor: Whose devices.
        clock: What the services take for now.
    """

    def __init__(self, vendor: Nvidia, *, clock: Callable[[], datetime] = now) -> None:
        self.vendor = vendor
        self.clock = clock
        self.chips: tuple[Chip, ...] = ("GH100", "GB100", "GB20X", "LS_10")
        self.rim_forms: dict[str, Mapping[str, Any]] = {}
        """By ``driver``, ``vbios`` or ``bios``: fields of ``RimForm`` to change."""
        self.ocsp_form: dict[str, Any] = {}
        """Fields of ``OcspForm`` to change in every answer."""
        self.nras_form: dict[str, Any] = {}
        """Fields of ``AnswerForm`` to change in every answer."""
        self.replies: dict[str, Reply | Callable[[Reply], Reply]] = {}
        """By ``rim``, ``ocsp``, ``nras`` or ``jwks``: what is answered instead."""
        self._keys: list[dict[str, Any]] = []

    def reply(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Answer one request.

        Args:
            method: ``GET`` or ``POST``.
            path: Its path.
            body: What was posted.
        """
        if method == "GET" and path.startswith(_RIM_PATH):
            return self._changed("rim", self._rim(path.removeprefix(_RIM_PATH)))
        if method == "GET" and path == _JWKS_PATH:
            return self._changed("jwks", Reply(body=json.dumps({"keys": self._keys}).encode()))
        if method == "POST" and path == "/":
            return self._changed("ocsp", self._ocsp(body))
        if method == "POST" and "/attest/" in path:
            return self._changed("nras", self._nras(body))
        return Reply(status=404)

    def _changed(self, service: str, made: Reply) -> Reply:
        change = self.replies.get(service)
        if change is None:
            return made
        return change if isinstance(change, Reply) else change(made)

    def _rim(self, name: str) -> Reply:
        for chip in self.chips:
            if name in self.vendor.gpu(chip=chip).rim_ids:
                forms = {
                    part: form
                    for part, form in self.rim_forms.items()
                    if (part == "bios") == (chip == "LS_10")
                }
                return Reply(body=rim_answer(name, self.vendor.rims(chip, **forms)[name]))
        return Reply(status=404)

    def _ocsp(self, body: bytes) -> Reply:
        """Answer about whichever of our certificates has that number, and echo the nonce."""
        try:
            asked = ocsp.load_der_ocsp_request(body)
        except ValueError:
            return Reply(status=400)
        nonces = [one.value for one in asked.extensions if isinstance(one.value, x509.OCSPNonce)]
        form = {"nonce": nonces[0].nonce if nonces else None, **self.ocsp_form}
        for certificate, issuer in self._certified():
            if certificate.certificate.serial_number == asked.serial_number:
                answer = ocsp_answer(certificate, issuer, self.clock(), **form)
                return Reply(content_type=_OCSP, body=answer)
        failed = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        return Reply(content_type=_OCSP, body=failed.public_bytes(Encoding.DER))

    def _certified(self) -> Iterator[tuple[Authority, Authority]]:
        for device in self.vendor.devices:
            yield from pairwise(device.authorities[1:])
        yield from pairwise(self.vendor.rim_signers.chain)

    def _nras(self, body: bytes) -> Reply:
        """Verify what was posted, and answer with 200 whatever the outcome is."""
        try:
            posted = json.loads(body)
            entries, nonce = posted["evidence_list"], posted["nonce"]
            entries = [{**entry, "arch": posted["arch"]} for entry in entries]
        except (ValueError, KeyError, TypeError):
            return Reply(status=400)
        form: dict[str, Any] = {"claims_version": posted.get("claims_version", "2.0")}
        try:
            nvidia.verify_evidence(
                entries,
                nonce=nonce,
                at=self.clock(),
                roots=UnsafeTestRoots([self.vendor.roots_pem()]),
            )
        except TeeVerifyError as error:
            code, message = _ERRORS.get(error.id, _OTHER_ERROR)
            form["error"] = {"code": code, "message": message, "httpStatus": 400}
        answer, jwks = self.vendor.nras_answer(
            entries, nonce, self.clock(), **{**form, **self.nras_form}
        )
        self._keys += json.loads(jwks)["keys"]
        return Reply(body=answer)

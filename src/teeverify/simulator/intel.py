"""A fake Intel: root, CAs, a CPU that makes quotes, and the endorsements of that CPU.

What it makes has the form of the real thing and verifies under :meth:`Intel.roots_pem`, which is
random in every run. Each field can be overridden alone, so that a test breaks exactly one thing::

    intel = Intel(at=moment)
    raw = intel.quote(report_data=digest, rtmrs=log.rtmrs)
    collateral = intel.collateral(tcb_status="OutOfDate")
    claims = verify_quote(raw, Endorsements.load(json.dumps(collateral)), at=moment,
                          roots=UnsafeTestRoots([intel.roots_pem()]))
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.simulator import intel_documents as documents
from teeverify.simulator.authority import Authority, PrivateKey, new_key, sign_raw
from teeverify.simulator.intel_pck import SimulatedPlatform
from teeverify.simulator.intel_records import write_capture, write_plain
from teeverify.simulator.intel_reports import (
    CORRUPTIBLE,
    Corrupt,
    corrupted,
    enclave_report,
    td_report,
)
from teeverify.tdx.quote import BodyType, EnclaveReport, Quote, TdReport

__all__ = [
    "CORRUPTIBLE",
    "Body",
    "Corrupt",
    "Intel",
    "write_capture",
    "write_plain",
]

Body: TypeAlias = Literal["1.0", "1.5", "1.5ex", "sgx"]
Overrides: TypeAlias = Mapping[str, Any]
_NONE: Overrides = {}
_SGX_EXTENSION = "1.2.840.113741.1.13.1"
_VERSION_5 = 5
_BODIES = {
    "1.0": BodyType.TD_1_0,
    "1.5": BodyType.TD_1_5,
    "1.5ex": BodyType.TD_1_5_EX,
    "sgx": BodyType.SGX,
}
_CAS = {"platform": "Intel SGX PCK Platform CA", "processor": "Intel SGX PCK Processor CA"}


class Intel:
    """Intel and one CPU, in software.

    Args:
        at: When the endorsements are asked for; they are issued a day before and live for a month.
        ca: Which CA certifies the CPU.
        fmspc: The CPU's model.
        pce_id: Its provisioning certification enclave.
        components: Its 16 component SVNs.
        pce_svn: SVN of its provisioning certification enclave.
        platform: Overrides of the other fields of
            :class:`~teeverify.simulator.intel_pck.SimulatedPlatform`.
        certificates: Overrides by role (``root``, ``ca``, ``pck``, ``signer``), each as
            :class:`~teeverify.simulator.authority.Authority` takes them, and ``common_name``.
    """

    def __init__(  # noqa: PLR0913 -- one override a field
        self,
        *,
        at: datetime,
        ca: Literal["platform", "processor"] = "platform",
        fmspc: str = "90c06f000000",
        pce_id: str = "0000",
        components: Sequence[int] = (3, 3, 2, 2, 4, 1, 0, 5, *([0] * 8)),
        pce_svn: int = 13,
        platform: Overrides = _NONE,
        certificates: Mapping[str, Overrides] = _NONE,
    ) -> None:
        self.at = at
        registered = ca == "platform"
        self.platform = SimulatedPlatform(
            **{
                "fmspc": fmspc,
                "pce_id": pce_id,
                "components": tuple(components),
                "pce_svn": pce_svn,
                "ppid": secrets.token_bytes(16),
                "platform_instance_id": secrets.token_bytes(16) if registered else None,
                "configuration": (True, True, True) if registered else None,
                **platform,
            }
        )
        roles = {role: dict(certificates.get(role, {})) for role in ("root", "ca", "pck", "signer")}
        self.root = Authority.root(**{"common_name": "Intel SGX Root CA", **roles["root"]})
        self.ca = self.root.issue(
            **{"common_name": _CAS[ca], "ca": True, "path_length": 0, **roles["ca"]}
        )
        extension = (_SGX_EXTENSION, self.platform.extension(), False)
        self.pck = self.ca.issue(
            **{
                "common_name": "Intel SGX PCK Certificate",
                "extensions": [extension],
                **roles["pck"],
            }
        )
        self.signer = self.root.issue(**{"common_name": "Intel SGX TCB Signing", **roles["signer"]})
        self.attestation_key = new_key()

    def roots_pem(self) -> bytes:
        """The root certificate, for :class:`~teeverify.roots.UnsafeTestRoots`."""
        return self.root.pem

    def pck_chain(self) -> bytes:
        """The CPU's certificate chain in PEM: leaf, CA, root."""
        return self.pck.pem + self.ca.pem + self.root.pem

    # --- quotes ------------------------------------------------------------------------------

    def quote(  # noqa: PLR0913 -- one override a field
        self,
        *,
        report_data: bytes = bytes(64),
        version: Literal[3, 4, 5] = 4,
        body: Body = "1.0",
        rtmrs: Sequence[bytes] | None = None,
        debug: bool = False,
        qe: Overrides = _NONE,
        quote: Overrides = _NONE,
        corrupt: Corrupt | None = None,
        padding: int = 0,
        **fields: bytes,
    ) -> bytes:
        """Make a quote.

        Args:
            report_data: The 64 bytes that the VM chooses; shorter ones are padded with zeros.
            version: 3 (SGX only), 4, or 5 (which the bodies 1.5 and 1.5ex need).
            body: Kind of the body.
            rtmrs: The four runtime registers.
            debug: Whether the VM runs in debug mode.
            qe: Overrides of the QE report, by field name of
                :class:`~teeverify.tdx.EnclaveReport`.
            quote: Overrides of anything else, by field name of :class:`~teeverify.tdx.Quote`,
                made before signing.
            corrupt: Flip one bit of this part after signing.
            padding: How many zero bytes follow.
            **fields: Overrides of the body, by field name of :class:`~teeverify.tdx.TdReport` (or
                :class:`~teeverify.tdx.EnclaveReport` for ``sgx``).
        """
        kind = _BODIES[body]
        registers = dict(zip(("rtmr0", "rtmr1", "rtmr2", "rtmr3"), rtmrs or (), strict=False))
        report_data = report_data.ljust(64, b"\0")
        found: TdReport | EnclaveReport = (
            enclave_report({"report_data": report_data, **fields}, debug=debug)
            if kind is BodyType.SGX
            else td_report(kind, {"report_data": report_data, **registers, **fields}, debug=debug)
        )
        return self._sign(self._draft(version, kind, found, quote), qe, corrupt) + bytes(padding)

    def _draft(
        self,
        version: int,
        kind: BodyType,
        body: TdReport | EnclaveReport,
        overrides: Overrides,
    ) -> Quote:
        """A quote with everything but its signatures."""
        draft = Quote(
            version=version,
            tee_type=0 if kind is BodyType.SGX else 0x81,
            qe_svn=0,
            pce_svn=0,
            user_data=secrets.token_bytes(16) + bytes(4),
            body_type=kind,
            body=body,
            signed_bytes=b"",
            signature=bytes(64),
            attestation_key=_point(self.attestation_key),
            qe_report=enclave_report({}),
            qe_report_bytes=b"",
            qe_report_signature=bytes(64),
            qe_auth_data=bytes(range(32)),
            certification_type=5,
            certification_data=self.pck_chain() + b"\0",
            trailing_bytes=0,
        )
        return draft._replace(**overrides)

    def _sign(self, draft: Quote, qe: Overrides, corrupt: Corrupt | None) -> bytes:
        bound = hashlib.sha256(draft.attestation_key + draft.qe_auth_data).digest() + bytes(32)
        report = enclave_report({"report_data": bound, **qe})
        raw = draft.to_bytes()
        size = len(draft.body.to_bytes()) + (54 if draft.version == _VERSION_5 else 48)
        signed = draft._replace(
            qe_report=report,
            qe_report_signature=self.pck.sign_raw(report.to_bytes()),
            signature=sign_raw(self.attestation_key, raw[:size]),
        )
        return corrupted(signed, corrupt).to_bytes()

    # --- endorsements ------------------------------------------------------------------------

    def collateral(  # noqa: PLR0913 -- one override a field
        self,
        *,
        tcb_status: str = "UpToDate",
        module_status: str = "UpToDate",
        qe_status: str = "UpToDate",
        advisory_ids: Sequence[str] = (),
        tcb_info: Overrides = _NONE,
        qe_identity: Overrides = _NONE,
        issue_date: datetime | None = None,
        next_update: datetime | None = None,
        signer: Authority | None = None,
        revoked: Iterable[Literal["root", "ca", "pck", "signer"]] = (),
        root_crl: Overrides = _NONE,
        pck_crl: Overrides = _NONE,
    ) -> dict[str, str]:
        """Make the endorsements of this CPU, in dcap-qvl's JSON form.

        Args:
            tcb_status: The status of the level that the CPU matches. If the CPU is then not up to
                date, there is a level above that is.
            module_status: The same for the TDX module.
            qe_status: The same for the quoting enclave.
            advisory_ids: Advisories of the CPU's level.
            tcb_info: Overrides of members of ``tcbInfo``; ``None`` leaves one out.
            qe_identity: Overrides of members of ``enclaveIdentity``.
            issue_date: From when all of it is valid.
            next_update: Until when all of it is valid.
            signer: Who signs the two documents, with its chain to the root.
            revoked: Which certificates are on their CA's list.
            root_crl: Overrides of the root's list, as ``Authority.crl`` takes them.
            pck_crl: Overrides of the PCK CA's list.
        """
        dates = (
            issue_date or self.at - timedelta(days=1),
            next_update or self.at + timedelta(days=29),
        )
        signer = signer or self.signer
        stated = documents.tcb_info(
            self.platform,
            dates,
            status=tcb_status,
            module_status=module_status,
            advisory_ids=advisory_ids,
        )
        info = _json({**stated, **tcb_info})
        identity = _json({**documents.qe_identity(dates, qe_status), **qe_identity})
        listed = set(revoked)
        of_root = [self._serial(role) for role in ("root", "ca", "signer") if role in listed]
        of_ca = [self._serial("pck")] if "pck" in listed else []
        common = {"this_update": dates[0], "next_update": dates[1]}
        chain = (signer.pem + self.root.pem).decode()
        return {
            "pck_crl_issuer_chain": (self.ca.pem + self.root.pem).decode(),
            "root_ca_crl": self.root.crl(**{"revoked": of_root, **common, **root_crl}).hex(),
            "pck_crl": self.ca.crl(**{"revoked": of_ca, **common, **pck_crl}).hex(),
            "tcb_info_issuer_chain": chain,
            "tcb_info": info,
            "tcb_info_signature": signer.sign_raw(info.encode()).hex(),
            "qe_identity_issuer_chain": chain,
            "qe_identity": identity,
            "qe_identity_signature": signer.sign_raw(identity.encode()).hex(),
        }

    def evaluation_numbers(
        self, *, signer: Authority | None = None, **members: object
    ) -> tuple[bytes, str]:
        """Make the list of data sets: the answer's body, and its signer's chain in PEM.

        The data sets of :meth:`collateral` are number 20, which is the standard one by then.

        Args:
            signer: Who signs it.
            **members: Overrides of members of the list; ``None`` leaves one out.
        """
        signer = signer or self.signer
        text = _json({**documents.evaluation_numbers(self.at), **members})
        signature = signer.sign_raw(text.encode()).hex()
        body = f'{{"tcbEvaluationDataNumbers":{text},"signature":"{signature}"}}'
        return body.encode(), (signer.pem + self.root.pem).decode()

    def level(self, status: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """A TCB level of this CPU; see :func:`~teeverify.simulator.intel_documents.tcb_level`."""
        return documents.tcb_level(self.platform, status, **options)

    def _serial(self, role: str) -> int:
        authority: Authority = getattr(self, role)
        return authority.certificate.serial_number


def _json(members: Overrides) -> str:
    present = {name: value for name, value in members.items() if value is not None}
    return json.dumps(present, separators=(",", ":"))


def _point(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

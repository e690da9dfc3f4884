"""The flat report of the dstack family (Phala's and NEAR's vLLM proxies, and their resellers).

Route ``GET /v1/attestation/report``; fields as in the proxies' public server code.
"""

from __future__ import annotations

from teeverify import nvidia, tdx
from teeverify.appraisal.evidence import Machine, Role
from teeverify.binding import SigningKey
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_members
from teeverify.providers.dialect import Dialect, Enclosed, Recorded

__all__ = ["DSTACK", "read_enclosed", "read_flat_report", "read_report"]

ID = "report"
_UNCOMPRESSED_POINT = b"\x04"
_POINT_BYTES = 64


def read_flat_report(
    report: JsonObject,
    *,
    role: Role,
    label: str,
    tls: bool,
    peer_spki_sha256: bytes | None = None,
    extra_names: tuple[str, ...] = (),
) -> Machine:
    """Read one flat report.

    Args:
        report: The report's object.
        role: Which machine it is of.
        label: Its name in findings.
        tls: Whether ``include_tls_fingerprint`` was requested: that alone chooses the layout.
        peer_spki_sha256: Fingerprint of the connection's TLS key, if known.
        extra_names: Further names under which the provider serves this model.

    Raises:
        MalformedEvidence: A field that must be there is missing or has another form.
    """
    info = report.object("info") if "info" in report else None
    algorithm = report.text("signing_algo") if "signing_algo" in report else "ecdsa"
    key = SigningKey.parse(
        algorithm,
        report.text("signing_address"),
        id=ID,
        field=f"{report.path}.signing_address",
    )
    names = (report.text("model_name"),) if "model_name" in report else ()
    return Machine(
        role=role,
        label=label,
        quote=report.hex("intel_quote", prefix=True),
        layout="near-tls" if tls else "dstack-padded",
        key=key,
        public_key=_public_key(report, key),
        tls_spki_sha256=report.hex("tls_cert_fingerprint", 32) if tls else None,
        peer_spki_sha256=peer_spki_sha256,
        event_log=report.raw("event_log"),
        app_compose=_app_compose(info),
        gpus=report.raw("nvidia_payload"),
        model_names=names + extra_names,
        nonce=report.hex("request_nonce", 32) if "request_nonce" in report else None,
    )


def _public_key(report: JsonObject, key: SigningKey) -> bytes | None:
    """The secp256k1 point beside an address: 64 bytes, with or without the leading 04."""
    if key.algorithm != "ecdsa" or "signing_public_key" not in report:
        return None
    data = report.hex("signing_public_key", prefix=True)
    point = data.removeprefix(_UNCOMPRESSED_POINT) if len(data) == _POINT_BYTES + 1 else data
    return point if len(point) == _POINT_BYTES else report.hex("signing_public_key", _POINT_BYTES)


def _app_compose(info: JsonObject | None) -> str | None:
    """The exact text, as served: re-serialising an object would change its hash."""
    if info is None or "tcb_info" not in info:
        return None
    tcb_info = info.object_or_text("tcb_info")
    return tcb_info.text("app_compose") if "app_compose" in tcb_info else None


def read_report(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a model node's own report.

    Raises:
        MalformedEvidence: See :func:`read_flat_report`.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    return (
        read_flat_report(
            report,
            role="model",
            label="model",
            tls=False,
            peer_spki_sha256=exchange.peer_spki_sha256,
        ),
    )


def read_enclosed(body: bytes) -> Enclosed:
    """Read the member ``endorsements`` of a report, which our own server adds.

    ``tdx`` is Intel's collateral in the JSON form of dcap-qvl; ``nras`` holds the ``answer`` of
    NVIDIA's service and its ``jwks``, both as text.

    Raises:
        MalformedEvidence: A member has another form.
    """
    report = JsonObject.parse(body, path="report", id=ID)
    if "endorsements" not in report:
        return Enclosed()
    given = report.object("endorsements")
    nras = given.object("nras") if "nras" in given else None
    return Enclosed(
        tdx=_collateral(body) if "tdx" in given else None,
        nvidia=None
        if nras is None
        else nvidia.Endorsements(
            nras_answers=(nras.text("answer").encode("utf-8"),),
            jwks=(nras.text("jwks").encode("utf-8"),) if "jwks" in nras else (),
        ),
    )


def _collateral(body: bytes) -> tdx.Endorsements:
    """From the exact text: it holds signed documents."""
    given = json_members(body, field="report", id=ID)["endorsements"]
    return tdx.Endorsements.load(json_members(given, field="report.endorsements", id=ID)["tdx"])


DSTACK = Dialect(
    id="dstack",
    hosts=(),
    report_path="/v1/attestation/report",
    read=read_report,
    text="the flat report of the dstack vLLM proxies; binds key and nonce, GPUs by equal nonce",
    signature_path="/signature/{id}",
    signed_routes=("/chat/completions", "/completions"),
    enclosed=read_enclosed,
)

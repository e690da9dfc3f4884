"""The flat report of the dstack family (Phala's and NEAR's vLLM proxies, and their resellers).

Route ``GET /v1/attestation/report``; fields as in the proxies' public server code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from teeverify import nvidia, tdx
from teeverify.appraisal.evidence import Machine, Role
from teeverify.binding import SigningKey
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, json_members
from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.providers.dialect import Dialect, Enclosed, Recorded

__all__ = [
    "DSTACK",
    "PROXY_CANNOT",
    "PROXY_PROVES",
    "WITHIN",
    "read_enclosed",
    "read_flat_report",
    "read_list",
    "read_nodes",
    "read_report",
]

ID = "report"
_ENDORSEMENTS = "report.endorsements"
_MOST_NODES = 64
PROXY_PROVES = (
    "that a genuine TDX machine with genuine NVIDIA GPUs holds the signing key, now",
    "that exactly these bytes of an answer were signed by it",
)
"""What every signed dialect of this family proves."""
PROXY_CANNOT = (
    "that the enclave read your request: whoever calls it may choose the request hash",
    "that the GPUs sit in that machine: they answered the same nonce",
    "that the answer is no earlier one to the same request",
)
"""What none of them can."""
_UNCOMPRESSED_POINT = b"\x04"
_POINT_BYTES = 64
WITHIN = ("process", "loopback", "supervised")
"""Where an engine may be that is part of the machine."""


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
        BindingMismatch: The machine says itself that another one makes the answers.
    """
    _require_local_engine(report)
    if "signing_address" not in report:
        raise MalformedEvidence(
            "unsupported evidence format: the report names no signing key, so nothing is bound",
            id=ID,
            field=f"{report.path}.signing_address",
            got="a gateway's own form, aci/1, whose draft is not read here"
            if report.raw("api_version") == "aci/1"
            else None,
            want="the flat report of a dstack node",
            hint="Name another dialect with --dialect; 'teeverify providers' lists them.",
        )
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
        event_log=_event_log(report),
        app_compose=_app_compose(info),
        gpus=report.raw("nvidia_payload"),
        model_names=names + extra_names,
        nonce=report.hex("request_nonce", 32) if "request_nonce" in report else None,
        device_id=info.hex("device_id", 32) if info is not None and "device_id" in info else None,
    )


def _require_local_engine(report: JsonObject) -> None:
    """What our own server says beside the report: a remote engine is no part of this machine."""
    engine = report.raw("engine")
    location = engine.get("location") if isinstance(engine, dict) else None
    if location is not None and location not in WITHIN:
        raise BindingMismatch(
            "the machine passes requests on to another one, of which its evidence says nothing",
            id="endpoint.remote-engine",
            got=str(location)[:80],
            want=" or ".join(WITHIN),
        )


def _public_key(report: JsonObject, key: SigningKey) -> bytes | None:
    """The point beside an address, 64 bytes with or without the leading 04; or an Ed25519 key."""
    if "signing_public_key" not in report:
        return None
    if key.algorithm != "ecdsa":
        return report.hex("signing_public_key", len(key.identifier), prefix=True)
    data = report.hex("signing_public_key", prefix=True)
    point = data.removeprefix(_UNCOMPRESSED_POINT) if len(data) == _POINT_BYTES + 1 else data
    return point if len(point) == _POINT_BYTES else report.hex("signing_public_key", _POINT_BYTES)


def _event_log(report: JsonObject) -> object:
    """The log, which proves itself; Phala's gateway has it beside the quote of ``aci/1`` alone.

    That gateway (Dstack-TEE's private-ai-gateway, since 2026-07) answers in two forms at once: flat
    as its predecessors did, and its own.
    """
    if "event_log" in report:
        return report.raw("event_log")
    attestation = report.raw("attestation")
    evidence = attestation.get("evidence") if isinstance(attestation, dict) else None
    if not isinstance(evidence, dict) or evidence.get("quote") != report.raw("intel_quote"):
        return None
    return evidence.get("event_log")


def _app_compose(info: JsonObject | None) -> str | None:
    """The exact text, as served: re-serialising an object would change its hash."""
    if info is None or "tcb_info" not in info:
        return None
    tcb_info = info.object_or_text("tcb_info")
    return tcb_info.text("app_compose") if "app_compose" in tcb_info else None


def read_list(
    entries: Sequence[object],
    read: Callable[[JsonObject, str], Sequence[Machine]],
    *,
    path: str,
) -> list[Machine]:
    """Read a list of nodes, of which any may answer: what is wrong with one is its own affair.

    Args:
        entries: The list, as decoded.
        read: Reads an entry under a label.
        path: Name of the list, for errors.

    Raises:
        MalformedEvidence: Too many entries, or none of them can be read.
    """
    if len(entries) > _MOST_NODES:
        raise MalformedEvidence(
            f"{path}: too many nodes",
            id=ID,
            field=path,
            need=f"at most {_MOST_NODES}",
            have=len(entries),
        )
    machines: list[Machine] = []
    errors: list[MalformedEvidence] = []
    for index, entry in enumerate(entries):
        label = "model" if len(entries) == 1 else f"model[{index}]"
        node = None if len(entries) == 1 else index
        try:
            found = read(JsonObject(entry, path=f"{path}[{index}]", id=ID), label)
        except MalformedEvidence as error:
            errors.append(error)
            found = [Machine(role="model", label=label, broken=error)]
        machines += [replace(machine, node=node) for machine in found]
    if errors and len(errors) == len(entries):
        raise errors[0]
    return machines


def read_nodes(
    report: JsonObject, read: Callable[[JsonObject, str], Sequence[Machine]]
) -> list[Machine]:
    """Read a node's own report, and those of others beside it (``all_attestations``).

    Raises:
        MalformedEvidence: The report itself, or the list, has another form.
    """
    own = read(report, "model")
    if "all_attestations" not in report:
        return list(own)
    others = [
        entry
        for entry in report.array("all_attestations")
        if not (isinstance(entry, dict) and entry.get("intel_quote") == report.raw("intel_quote"))
    ]
    if not others:
        return list(own)
    whole: list[object] = [{name: report.raw(name) for name in report.names()}, *others]
    return read_list(whole, read, path=f"{report.path}.all_attestations")


def read_report(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a model node's own report, and those of other nodes beside it.

    Raises:
        MalformedEvidence: See :func:`read_flat_report`.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)

    def read(entry: JsonObject, label: str) -> tuple[Machine, ...]:
        return (
            read_flat_report(
                entry,
                role="model",
                label=label,
                tls=False,
                peer_spki_sha256=exchange.peer_spki_sha256,
            ),
        )

    return tuple(read_nodes(report, read))


def read_enclosed(body: bytes) -> Enclosed:
    """Read the member ``endorsements`` of a report, which our own server adds.

    ``tdx`` is Intel's collateral in the JSON form of dcap-qvl; ``nvidia`` holds ``rims``, NVIDIA's
    manifests as text by their ids, and ``ocsp``, its answers on revocation in base64; ``nras``
    holds the ``answer`` of NVIDIA's service and its ``jwks``, both as text, which count for
    recordings only.

    Raises:
        MalformedEvidence: A member has another form.
    """
    report = json_members(body, field="report", id=ID)
    if "endorsements" not in report:
        return Enclosed()
    # Cut out as text: it holds signed documents.
    given = json_members(report["endorsements"], field=_ENDORSEMENTS, id=ID)
    of_nvidia = [
        read(JsonObject.parse(given[name], path=f"{_ENDORSEMENTS}.{name}", id=ID))
        for name, read in _OF_NVIDIA.items()
        if name in given
    ]
    return Enclosed(
        tdx=tdx.Endorsements.load(given["tdx"]) if "tdx" in given else None,
        nvidia=nvidia.Endorsements.union(*of_nvidia) if of_nvidia else None,
    )


def _signed_by_nvidia(given: JsonObject) -> nvidia.Endorsements:
    rims = given.object("rims")
    return nvidia.Endorsements(
        rims=tuple(
            nvidia.RimFile(name, rims.text(name).encode("utf-8")) for name in sorted(rims.names())
        ),
        ocsp=tuple(
            base64_bytes(text, field=f"{given.path}.ocsp", id=ID) for text in given.texts("ocsp")
        ),
    )


def _said_by_nras(given: JsonObject) -> nvidia.Endorsements:
    return nvidia.Endorsements(
        nras_answers=(given.text("answer").encode("utf-8"),),
        jwks=(given.text("jwks").encode("utf-8"),) if "jwks" in given else (),
    )


_OF_NVIDIA: Mapping[str, Callable[[JsonObject], nvidia.Endorsements]] = {
    "nvidia": _signed_by_nvidia,
    "nras": _said_by_nras,
}


DSTACK = Dialect(
    id="dstack",
    hosts=(),
    report_path="/v1/attestation/report",
    read=read_report,
    text="the flat report of the dstack vLLM proxies; binds key and nonce, GPUs by equal nonce",
    signature_path="/signature/{id}",
    signed_routes=("/chat/completions", "/completions"),
    enclosed=read_enclosed,
    asks={"signing_algo": "ecdsa"},
    asks_signature={"signing_algo": "ecdsa"},
    proves=PROXY_PROVES,
    cannot=(
        "that you are connected to that machine, or that nobody on the way reads along",
        *PROXY_CANNOT,
    ),
)

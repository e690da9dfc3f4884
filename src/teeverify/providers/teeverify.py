"""``teeverify/1``: this project's own server (docs/protocol.md).

Of the report nothing is believed: the binding is rebuilt from its parts and from our nonce.
"""

from __future__ import annotations

import hashlib
from typing import Any

from teeverify import snp, tdx
from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound, Process
from teeverify.binding.teeverify1 import Device, nonce_of, read_binding
from teeverify.crypto.ethereum import address_of
from teeverify.crypto.pem import pem_blocks
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.jcs import canonical_json
from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import WITHIN, read_enclosed
from teeverify.responses.statement_form import STATEMENT

__all__ = ["TEEVERIFY", "read_config", "read_report"]

ID = "report"
_TYPE = "teeverify/1 attestation"
_CONFIG_TYPE = "teeverify/1 config"
_NEEDED = {"type", "binding", "config", "platform", "evidence", "devices"}
_OPTIONAL = {
    "app_compose",
    "certificates",
    "endorsements",
    "event_log",
    "secp256k1_public_key",
}
_DEVICE = {"kind", "certificate", "evidence"}
_CONFIG = {
    "dialects",
    "engine",
    "key_origin",
    "routes",
    "server",
    "signature_ttl_seconds",
    "type",
}
_ENGINE = {"kind", "location", "model", "name", "weights"}
_SERVER = {"name", "source", "version"}
_LAYOUT, _BY_TPM = "teeverify/1", "teeverify/1-vtpm"
_POINT = 64
_MOST_CERTIFICATES = 8
_MOST_DEVICES = 32


def read_report(exchange: Recorded) -> tuple[Machine, ...]:
    """Read an attestation.

    Raises:
        MalformedEvidence: A member too many or too few, or of another form.
        BindingMismatch: The served binding is not what the parts make, or the engine is on
            another machine.
    """
    report = JsonObject.parse(exchange.body, path="report", id=ID)
    _version(report, _TYPE)
    _members(report, _NEEDED, _OPTIONAL)
    served = report.base64("binding", url=True)
    claimed = read_binding(served, id=ID)
    config = report.base64("config", url=True)
    read_config(config)
    devices, gpus = _devices(report)
    public_key = None
    if "secp256k1_public_key" in report:
        public_key = report.hex("secp256k1_public_key", _POINT)
    process = Process(
        address=None if public_key is None else address_of(public_key),
        ed25519=claimed.ed25519,
        tls_spki_sha256=claimed.tls_spki_sha256,
        hpke_key=claimed.hpke_key,
        config=config,
        devices=devices,
    )
    if process.binding(claimed.nonce) != served:
        raise BindingMismatch(
            "the served binding is not what the served keys, configuration and devices make",
            id="binding.report-data",
            got=served.hex()[:64],
            want=process.binding(claimed.nonce).hex()[:64],
        )
    return (
        Machine(
            role="model",
            label="model",
            key=process.keys[0],
            public_key=public_key,
            tls_spki_sha256=process.tls_spki_sha256,
            peer_spki_sha256=exchange.peer_spki_sha256,
            commits=Bound(process=process, hpke_key=process.hpke_key),
            event_log=report.raw("event_log"),
            app_compose=report.text("app_compose") if "app_compose" in report else None,
            gpus=gpus,
            model_names=_names(config),
            nonce=claimed.nonce,
            **_cpu(report),
        ),
    )


def read_config(raw: bytes) -> JsonObject:
    """Read a server's configuration: the word of the measured code.

    Raises:
        MalformedEvidence: Other members, or other bytes than its canonical ones.
        BindingMismatch: The engine is on another machine.
    """
    config = JsonObject.parse(raw, path="config", id=ID)
    _version(config, _CONFIG_TYPE)
    _members(config, _CONFIG)
    _members(config.object("engine"), _ENGINE)
    _members(config.object("server"), _SERVER)
    value = {name: config.raw(name) for name in config.names()}
    if canonical_json(value, field="config", id=ID) != raw:
        raise MalformedEvidence("config: not in its canonical form", id=ID, field="config")
    if config.text("key_origin") != "process":
        raise MalformedEvidence(
            "config.key_origin: unknown", id=ID, field="config.key_origin", want="process"
        )
    location = config.object("engine").text("location")
    if location not in WITHIN:
        raise BindingMismatch(
            "the machine passes requests on to another one, of which its evidence says nothing",
            id="endpoint.remote-engine",
            got=ascii(location)[:80],
            want=" or ".join(WITHIN),
        )
    return config


def _names(config: bytes) -> tuple[str, ...]:
    """The names of the model; where the engine itself is not known to have one, none."""
    engine = JsonObject.parse(config, path="config", id=ID).object("engine")
    return tuple(dict.fromkeys(name for name in (engine.text("name"),) if name))


def _cpu(report: JsonObject) -> dict[str, Any]:
    """The evidence of the CPU by platform; the layout follows from what carries the binding."""
    platform, evidence = report.text("platform"), report.base64("evidence")
    if platform == "tdx":
        return {"quote": evidence, "layout": _LAYOUT}
    if platform == "sev-snp":
        table = report.base64("certificates") if "certificates" in report else None
        return {"snp_report": evidence, "snp_certificates": table, "layout": _LAYOUT}
    if platform == "azure-tdx":
        azure, quote = tdx.parse_azure_evidence(_azure(evidence))
        return {"quote": quote, "azure": azure, "layout": _BY_TPM}
    if platform == "azure-snp":
        azure = snp.parse_azure_evidence(_azure(evidence))
        return {
            "snp_report": snp.parse_hcl_report(azure.hcl).report,
            "snp_certificates": azure.certificates,
            "azure": azure,
            "layout": _BY_TPM,
        }
    raise MalformedEvidence(
        "report.platform: unknown",
        id=ID,
        field="report.platform",
        got=ascii(platform)[:40],
        want="tdx, sev-snp, azure-tdx or azure-snp",
    )


def _azure(evidence: bytes) -> JsonObject:
    return JsonObject.parse(evidence, path="report.evidence", id=ID)


def _devices(report: JsonObject) -> tuple[tuple[Device, ...], list[dict[str, str]] | None]:
    """The devices as they are bound, and the very same bytes as their evidence."""
    entries = report.objects("devices")
    if len(entries) > _MOST_DEVICES:
        raise MalformedEvidence(
            "report.devices: too many",
            id=ID,
            field="report.devices",
            need=f"at most {_MOST_DEVICES}",
            have=len(entries),
        )
    devices, evidence = [], []
    for entry in entries:
        _members(entry, _DEVICE)
        pem = entry.base64("certificate")
        shown = entry.base64("evidence")
        devices.append(device_of(entry.integer("kind"), pem, shown))
        # In spellings that can be read in one way only.
        evidence.append({"certificate": pem.decode("latin-1"), "evidence": shown.hex()})
    return tuple(devices), evidence or None


def device_of(kind: int, pem: bytes, evidence: bytes) -> Device:
    """A device by its kind, its certificate chain in PEM and its SPDM request and response.

    Raises:
        MalformedEvidence: No chain, or an unknown kind.
    """
    if kind not in (1, 2):
        raise MalformedEvidence(
            "device.kind: unknown", id=ID, field="device.kind", got=str(kind)[:20], want="1 or 2"
        )
    blocks = pem_blocks(
        pem, "CERTIFICATE", id=ID, what="a device's certificates", max_blocks=_MOST_CERTIFICATES
    )
    return Device(
        kind=kind,
        certificate_sha256=hashlib.sha256(blocks[0]).digest(),
        evidence_sha256=hashlib.sha256(evidence).digest(),
    )


def _version(owner: JsonObject, want: str) -> None:
    if owner.raw("type") != want:
        raise MalformedEvidence(
            f"unsupported evidence format: {owner.path}.type is another version's",
            id=ID,
            field=f"{owner.path}.type",
            got=ascii(owner.raw("type"))[:40],
            want=want,
            hint="If this is another kind of endpoint, name its dialect (dialect=, --dialect).",
        )


def _members(owner: JsonObject, needed: set[str], optional: set[str] | None = None) -> None:
    """Unknown members are refused: in another version they may mean something."""
    names = owner.names()
    unknown = names - needed - (optional or set())
    missing = needed - names
    if unknown or missing:
        raise MalformedEvidence(
            f"{owner.path}: other members than it must have",
            id=ID,
            field=owner.path,
            got=ascii(", ".join(sorted(name[:40] for name in unknown)) or "too few")[:120],
            want=", ".join(sorted(needed)),
        )


TEEVERIFY = Dialect(
    id="teeverify/1",
    hosts=(),
    report_path="/v1/attestation/report",
    read=read_report,
    text="teeverify's own server; GPU nonce from the enclave's keys, evidence hash in the quote",
    signature_path="/signature/{id}",
    signed_routes=(
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/responses",
        "/messages",
    ),
    enclosed=read_enclosed,
    asks={"dialect": "teeverify/1"},
    asks_signature={"dialect": "teeverify/1"},
    form=STATEMENT,
    nonce=nonce_of,
    proves=(
        "that a genuine confidential machine holds the signing keys, now",
        "that the GPUs answered a nonce that follows from its keys, as its quote says",
        "that exactly these bytes answer exactly your request, on this route, with this status",
        "that the answer was made for your challenge, and is no earlier one",
    ),
    cannot=(
        "that the GPUs sit in that machine: an enclave that answers any nonce can lend its own",
        "that the answer is true, or which weights ran, unless the listed code pins them",
    ),
)

"""From a receipt to evidence, as untrusted as in any other file, and back."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

from teeverify import nvidia, snp, tdx
from teeverify.appraisal import SignedAnswer
from teeverify.appraisal.evidence import Evidence, Held, RecordedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.client.collateral import collateral_texts
from teeverify.encoding.jcs import canonical_json
from teeverify.errors import AppraisalFailed, MalformedEvidence, TeeVerifyError
from teeverify.nvidia import RimFile
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Dialect, Enclosed, Recorded
from teeverify.responses import parse_signature
from teeverify.responses.receipt import ID, ReceiptFile, core_hash, core_of
from teeverify.tdx.pcs import platform_of

__all__ = ["Attestations", "endorsements_beside", "evidence_of", "unsigned_answer"]

_MAX_ATTESTATIONS = 256
T = TypeVar("T")


class Attestations:
    """Attestations that one verifier met in receipts, so that many answers share each.

    What is kept follows from the bytes of the attestation and from the question alone.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for a key before, or is made now."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                found: T = self._known[key]
                return found
        made = make()
        with self._lock:
            self._known[key] = made
            while len(self._known) > _MAX_ATTESTATIONS:
                self._known.popitem(last=False)
        return made


def evidence_of(parts: ReceiptFile, *, source: str, known: Attestations | None = None) -> Evidence:
    """The evidence and the answer in a receipt, as untrusted as in any other file.

    Args:
        parts: The receipt.
        source: Where it came from, for people.
        known: Attestations that were met before.

    Raises:
        MalformedEvidence: A part has another form, or is not about this answer.
    """
    core = core_of(parts)
    key = _attestation_key(core)
    _require_same_answer(parts)
    shared = (Attestations() if known is None else known).get(key, lambda: _attestation(parts))
    return replace(
        shared,
        source=source,
        answer=RecordedAnswer(
            signature=parts.signature, answer=parts.response.raw, request=parts.request.raw
        ),
        held=Held(
            digest=core_hash(core),
            attestation=key,
            stated=parts.answered_at,
            timestamps=parts.timestamps,
        ),
    )


def _attestation_key(core: dict[str, Any]) -> bytes:
    """Of everything that the attestation is: its parts are named by their hashes."""
    shared = {name: core[name] for name in ("dialect", "challenge", "attestation", "endorsements")}
    shared["challenge"] = shared["challenge"]["nonce"]
    return hashlib.sha256(canonical_json(shared, field="receipt.core", id=ID)).digest()


def _attestation(parts: ReceiptFile) -> Evidence:
    """The evidence without an answer."""
    chosen = _dialect(parts)
    # Of several routes together each names the nonce in a way of its own.
    stated = parts.query.get("nonce", "" if chosen.questions is None else parts.nonce.hex())
    if stated != parts.nonce.hex():
        raise MalformedEvidence(
            "receipt.attestation.query: not the question with this nonce",
            id=ID,
            field="receipt.attestation.query",
        )
    exchange = Recorded(
        path=parts.path,
        query=parts.query,
        body=parts.report,
        peer_spki_sha256=parts.peer_spki_sha256,
    )
    enclosed = chosen.enclosed(parts.report)
    beside = _beside(parts)
    return Evidence(
        kind="endpoint",
        provider=chosen.id,
        source="receipt",
        machines=chosen.read(exchange),
        requested_model=parts.query.get("model"),
        nonce=parts.nonce if chosen.fresh else None,
        recorded_at=parts.attested_at,
        tdx_endorsements=beside.tdx or enclosed.tdx,
        snp_endorsements=_amd(parts),
        nvidia_endorsements=beside.nvidia or enclosed.nvidia,
    )


def _dialect(parts: ReceiptFile) -> Dialect:
    chosen = DIALECTS.get(parts.dialect)
    if chosen is None:
        raise MalformedEvidence(
            "receipt.dialect: none that is known here",
            id=ID,
            field="receipt.dialect",
            got=repr(parts.dialect)[:40],
            want=", ".join(DIALECTS),
        )
    return chosen


def _require_same_answer(parts: ReceiptFile) -> None:
    """Hashes whose bytes are not there must at least be the signed ones."""
    if parts.signature is None or parts.response.raw is not None:
        return
    try:
        signed = parse_signature(parts.signature)
    except TeeVerifyError:
        return  # said in its place, when the signature is verified
    for name, kept, stated in (
        ("request", parts.request, signed.request_sha256),
        ("response", parts.response, signed.response_sha256),
    ):
        if kept.raw is None and kept.sha256.hex() != stated:
            raise MalformedEvidence(
                f"receipt.answer.{name}: not the hash that was signed",
                id=ID,
                field=f"receipt.answer.{name}",
                got=kept.sha256.hex(),
                want=stated,
            )


def _platforms(evidence: Evidence, known: tdx.Endorsements) -> set[bytes]:
    """The models of CPU (FMSPC) that its quotes name; all, where one does not name any."""
    quotes = [m.quote for m in evidence.machines if m.quote is not None]
    try:
        return {platform_of(tdx.parse_quote(quote)).fmspc for quote in quotes}
    except TeeVerifyError:
        return {entry.item.fmspc for entry in known.pool.tcb_infos}


def _beside(parts: ReceiptFile) -> Enclosed:
    """The endorsements of Intel and NVIDIA that its maker kept beside those in the report."""
    several = [tdx.Endorsements.load(raw) for raw in parts.tdx]
    gpus = nvidia.Endorsements(
        nras_answers=parts.nras,
        jwks=parts.jwks,
        rims=tuple(RimFile(id=name, xml=raw) for name, raw in parts.rims),
        ocsp=parts.ocsp,
        crls=parts.crls,
    )
    return Enclosed(
        tdx=tdx.Endorsements.union(*several) if several else None,
        nvidia=None if gpus.is_empty else gpus,
    )


def _amd(parts: ReceiptFile) -> snp.Endorsements | None:
    several = [snp.Endorsements.load(raw) for raw in parts.snp]
    return snp.Endorsements.union(*several) if several else None


def unsigned_answer(answer: bytes | None) -> SignedAnswer:
    """An answer that only its channel authenticated, which nobody can show to somebody else."""
    error = AppraisalFailed(
        "no signature by the enclave: only the one who was there knows what it answered",
        id="answer.signature",
        hint="The attestation below is verified; the answer is not, and cannot be.",
    )
    return SignedAnswer(
        observations=(Observation.failed(error),),
        signer=None,
        size=None if answer is None else len(answer),
        sha256=None if answer is None else hashlib.sha256(answer).hexdigest(),
    )


def endorsements_beside(evidence: Evidence, report: bytes, dialect: Dialect) -> dict[str, Any]:
    """What a receipt must hold beside the report, as arguments of :class:`ReceiptFile`.

    Args:
        evidence: The evidence, with all endorsements that it was examined with.
        report: The report's exact bytes; endorsements inside it are not kept twice.
        dialect: The report's dialect.
    """
    enclosed = dialect.enclosed(report)
    found: dict[str, Any] = {}
    intel = evidence.tdx_endorsements
    if intel is not None and (enclosed.tdx is None or intel.pool != enclosed.tdx.pool):
        found["tdx"] = collateral_texts(intel, _platforms(evidence, intel))
    amd = evidence.snp_endorsements
    if amd is not None:
        pieces = [leaf.der for leaf in amd.found.leaves]
        pieces += [one.der for one in amd.found.authorities]
        pieces += [crl.der for crl in amd.found.crls]
        found["snp"] = tuple(dict.fromkeys(pieces))
    gpus = evidence.nvidia_endorsements
    if gpus is not None and gpus != enclosed.nvidia:
        found.update(
            nras=gpus.nras_answers,
            jwks=gpus.jwks,
            rims=tuple((rim.id, rim.xml) for rim in gpus.rims),
            ocsp=gpus.ocsp,
            crls=gpus.crls,
        )
    return found

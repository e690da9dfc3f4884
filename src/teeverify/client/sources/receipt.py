"""From a receipt to evidence, as untrusted as in any other file."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from teeverify import nvidia, snp, tdx
from teeverify.appraisal import SignedAnswer
from teeverify.appraisal.evidence import Evidence, Held, RecordedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.binding.teeverify1 import challenge_of
from teeverify.encoding.jcs import canonical_json
from teeverify.errors import AppraisalFailed, MalformedEvidence, TeeVerifyError
from teeverify.nvidia import RimFile
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Dialect, Enclosed, Recorded
from teeverify.responses import parse_signature
from teeverify.responses.receipt import ID, ReceiptFile, core_hash, core_of
from teeverify.responses.statement import parse_signed
from teeverify.responses.statement_form import STATEMENT

__all__ = ["Attestations", "evidence_of", "unsigned_answer"]

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
            signature=parts.signature,
            answer=parts.response.raw,
            request=parts.request.raw,
            seen=_seen(parts),
        ),
        held=Held(
            digest=core_hash(core),
            attestation=key,
            stated=parts.answered_at,
            timestamps=parts.timestamps,
        ),
    )


def _seen(parts: ReceiptFile) -> dict[str, object]:
    """What the holder says of the exchange: compared with what the enclave signed, if it did."""
    seen: dict[str, object] = {
        "method": parts.http.method,
        "target": parts.http.target,
        "status": parts.http.status,
        "request_type": parts.http.request_type,
        "response_type": parts.http.response_type,
    }
    if parts.challenge is not None and parts.challenge.challenge is not None:
        seen |= {"challenge": parts.challenge.challenge, "challenge_by": _holder(parts)}
    return seen


def _holder(parts: ReceiptFile) -> str:
    """Whose word the challenge is; only who looks a beacon up knows that it was one."""
    known = parts.challenge
    random = None if known is None else known.challenge_random
    if known is None or random is None:
        return "the receipt's holder"
    report = hashlib.sha256(parts.report).digest()
    made = challenge_of(random, report, known.beacon or bytes(32))
    if made != known.challenge:
        return "the receipt's holder; how it was made is not shown"
    if known.beacon is None:
        return "the receipt's holder, who chose its random part"
    return f"the receipt's holder, who says that a beacon gave {known.beacon.hex()}"


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
        host=_host(parts.endpoint),
        beside=parts.beside,
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


def _host(endpoint: str) -> str:
    """The host that was asked: of some it decides whether a gateway answered."""
    try:
        return urlsplit(endpoint).hostname or ""
    except ValueError:
        raise MalformedEvidence(
            "receipt.attestation.endpoint: no URL", id=ID, field="receipt.attestation.endpoint"
        ) from None


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
        hashes = _signed_hashes(parts.signature, parts.dialect)
    except TeeVerifyError:
        return  # said in its place, when the signature is verified
    for name, kept, stated in (
        ("request", parts.request, hashes[0]),
        ("response", parts.response, hashes[1]),
    ):
        if kept.raw is None and kept.sha256.hex() != stated:
            raise MalformedEvidence(
                f"receipt.answer.{name}: not the hash that was signed",
                id=ID,
                field=f"receipt.answer.{name}",
                got=kept.sha256.hex(),
                want=stated,
            )


def _signed_hashes(signature: bytes, dialect: str) -> tuple[str, str]:
    """The hashes of request and response that are signed, in hex."""
    if dialect == STATEMENT.id:
        statement = parse_signed(signature).statement
        hashed = (statement.request_hash or "", statement.response_hash)
        return hashed[0].rpartition(":")[2], hashed[1].rpartition(":")[2]
    text = parse_signature(signature)
    return text.request_sha256, text.response_sha256


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

"""nilAI's signed answers: a DER signature inside the answer, over the answer with that one emptied.

The server signs the JSON text of its completion while its member ``signature`` is ``""``, with
ECDSA on secp256k1 and SHA-256, and then sends the same text with the signature filled in. So the
signed bytes are the received ones with one value cut out; nothing is serialised again. Streams are
not signed, no request is, and no evidence binds the key (facts on its public route: docs).
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.binding import SigningKey
from teeverify.crypto.ethereum import address_of, verify_digest
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.strict import base64_bytes, json_members, json_value, utf8_text
from teeverify.errors import (
    MalformedEvidence,
    ResponseNotVerified,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.responses.body import read_body, requested_model
from teeverify.responses.form import Form, Given, complete

__all__ = ["NILAI"]

_ID = "answer.signature"
_KEY_BYTES = 33
_MAX_SCALAR = 2**256


def _examine(given: Given) -> SignedAnswer:
    model = requested_model(given.request) if given.request is not None else None
    try:
        point, signed, signature = _read(given)
        verify_digest(point, hashlib.sha256(signed).digest(), signature, id=_ID)
    except TeeVerifyError as error:
        return SignedAnswer(
            observations=(Observation.failed(error), _request()),
            signer=None,
            requested_model=model,
        )
    signer = SigningKey("ecdsa", address_of(point))
    answer = given.answer or b""
    body = read_body(answer)
    return SignedAnswer(
        observations=(
            Observation.proven(
                _ID, f"Signed by {signer.short} (secp256k1, SHA-256, DER).", got=str(signer)
            ),
            Observation.proven(
                "response.hash-equal",
                f"{len(answer)} bytes; signed is exactly this text with its signature emptied.",
                got=hashlib.sha256(signed).hexdigest(),
            ),
            complete(body),
            _request(),
        ),
        signer=signer,
        response_model=body.model,
        requested_model=model,
        created=body.created,
        size=len(answer),
        sha256=hashlib.sha256(answer).hexdigest(),
    )


def _request() -> Observation:
    return Observation.absent(
        "request.bound", "This dialect signs the answer alone: nothing shows what was asked."
    )


def _read(given: Given) -> tuple[bytes, bytes, bytes]:
    """Key, signed bytes and ``r || s``.

    Raises:
        ResponseNotVerified: A part is not there.
        MalformedEvidence: A part has another form.
        SignatureInvalid: The signature is not DER in its one form.
    """
    if given.answer is None:
        raise ResponseNotVerified(
            "no signature: it stands in the answer, which was not given", id=_ID, hint="--answer"
        )
    signature, signed = _cut_out(given.answer)
    if given.signature is None:
        raise ResponseNotVerified(
            "the key that should have signed is not known",
            id=_ID,
            hint="Pass --signature: what the endpoint's route /v1/public_key returned.",
        )
    return _point(given.signature), signed, _pair(signature)


def _cut_out(answer: bytes) -> tuple[bytes, bytes]:
    """The signature, and the answer without it.

    Raises:
        MalformedEvidence: No JSON object, or its signature's bytes stand in it more than once.
        ResponseNotVerified: It carries no signature.
    """
    if read_body(answer).form == "stream":
        raise ResponseNotVerified("this dialect does not sign streams", id=_ID)
    value = json_members(answer, field="answer", id=_ID).get("signature", b"null")
    if value in (b"null", b'""'):
        raise ResponseNotVerified("the answer carries no signature", id=_ID)
    text = json_value(value, field="answer.signature", id=_ID)
    signature = base64_bytes(text, field="answer.signature", id=_ID)
    # In a JSON text a quote inside a string is escaped: this is a member, and the only such one.
    member = b'"signature":' + value
    if answer.count(member) != 1:
        raise MalformedEvidence(
            "answer.signature: not written once, in the one compact way that is signed",
            id=_ID,
            field="answer.signature",
            have=answer.count(member),
            need=1,
        )
    return signature, answer.replace(member, b'"signature":""')


def _pair(signature: bytes) -> bytes:
    """``r || s`` of a DER signature that has exactly the one valid form (X.690 10)."""
    try:
        r, s = decode_dss_signature(signature)
        good = encode_dss_signature(r, s) == signature and 0 < max(r, s) < _MAX_SCALAR
    except FOREIGN_ERRORS:
        good, r, s = False, 0, 0
    if not good or min(r, s) <= 0:
        raise SignatureInvalid(
            "the answer's signature is not DER", id=_ID, got=signature.hex()[:40]
        )
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _point(key: bytes | str) -> bytes:
    """The 64 bytes of a compressed public key in base64, bare or as a JSON string."""
    text = utf8_text(key, field="public key", id=_ID) if isinstance(key, bytes) else key
    text = text.strip(" \t\r\n")
    if text.startswith('"'):
        text = json_value(text, field="public key", id=_ID)
    raw = base64_bytes(text, field="public key", id=_ID)
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
        good = len(raw) == _KEY_BYTES
    except FOREIGN_ERRORS:
        good = False
    if not good:
        raise MalformedEvidence(
            "public key: not a compressed point of secp256k1",
            id=_ID,
            field="public key",
            got=f"{len(raw)} bytes",
            want=f"{_KEY_BYTES} bytes",
        )
    return point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


NILAI = Form(
    id="nilai",
    signs="DER ECDSA (secp256k1, SHA-256) over the plain answer with its own signature emptied; no "
    "request, no stream",
    examine=_examine,
)

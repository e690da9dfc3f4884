"""A fake OCSP responder, in which everything about an answer can be set wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority

__all__ = ["OcspForm", "ocsp_answer", "ocsp_answers"]

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 -- names a certificate, signs nothing
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspForm:
    """What can be set in an answer; every field alone.

    Attributes:
        status: ``good``, ``revoked`` or ``unknown``.
        reason: Why it was revoked.
        about: The certificate that it is about, instead of the one asked for.
        hash_name: The hash of the certificate's id.
        age: How old the answer is.
        lifetime: From then on, how long it is valid; ``None`` leaves the end out.
        delegate: Answer through a delegate; arguments of ``Authority.issue`` for it.
        usages: The delegate's extended key usages; ``None`` leaves them out.
        responder: Answer in this authority's name, instead of the issuer or a delegate.
        by_name: Name the responder by name, instead of by key.
        nonce: The nonce echoed.
        certificates: The certificates sent along.
        error: Give this error instead of an answer.
        extensions: More extensions of the answer, each critical.
    """

    status: str = "good"
    reason: x509.ReasonFlags | None = None
    about: Authority | None = None
    hash_name: str = "sha384"
    age: timedelta = timedelta(hours=1)
    lifetime: timedelta | None = timedelta(hours=24)
    delegate: Mapping[str, Any] | None = None
    usages: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.OCSP_SIGNING,)
    responder: Authority | None = None
    by_name: bool = False
    nonce: bytes | None = None
    certificates: Sequence[Authority] | None = None
    error: str | None = None
    extensions: Sequence[x509.ExtensionType] = field(default_factory=tuple)


def ocsp_answer(
    certificate: Authority,
    issuer: Authority,
    at: datetime,
    **overrides: Any,  # noqa: ANN401
) -> bytes:
    """Answer about one certificate.

    Args:
        certificate: Which one.
        issuer: Its issuer.
        at: When the question comes.
        **overrides: Fields of :class:`OcspForm`.
    """
    form = OcspForm(**overrides)
    if form.error is not None:
        failed = ocsp.OCSPResponseStatus[form.error]
        return ocsp.OCSPResponseBuilder.build_unsuccessful(failed).public_bytes(Encoding.DER)
    made = (at - form.age).replace(microsecond=0)
    revoked = form.status == "revoked"
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=(form.about or certificate).certificate,
        issuer=issuer.certificate,
        algorithm=_HASHES[form.hash_name],
        cert_status=ocsp.OCSPCertStatus[form.status.upper()],
        this_update=made,
        next_update=None if form.lifetime is None else made + form.lifetime,
        revocation_time=made - timedelta(days=1) if revoked else None,
        revocation_reason=form.reason,
    )
    responder, sent = _responder(issuer, form)
    encoding = ocsp.OCSPResponderEncoding.NAME if form.by_name else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, responder.certificate)
    if sent:
        builder = builder.certificates([one.certificate for one in sent])
    if form.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(form.nonce), critical=False)
    for extension in form.extensions:
        builder = builder.add_extension(extension, critical=True)
    key = responder.key
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("answers are signed with curve keys", id="usage.simulator")
    digest = hashes.SHA384() if key.key_size > 256 else hashes.SHA256()  # noqa: PLR2004
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def _responder(issuer: Authority, form: OcspForm) -> tuple[Authority, Sequence[Authority]]:
    """Who answers, and the certificates sent along."""
    if form.delegate is not None:
        usages = () if form.usages is None else ((x509.ExtendedKeyUsage(form.usages), False),)
        arguments = {"common_name": "OCSP responder", "extensions": usages, **form.delegate}
        delegate = issuer.issue(**arguments)
        return delegate, (delegate,) if form.certificates is None else form.certificates
    if form.responder is not None:
        sent = (form.responder,) if form.certificates is None else form.certificates
        return form.responder, sent
    return issuer, form.certificates or ()


def ocsp_answers(
    path: Sequence[Authority],
    at: datetime,
    **overrides: Any,  # noqa: ANN401
) -> list[bytes]:
    """Answers about every certificate of a path but the last.

    Args:
        path: The path, each issued by the next.
        at: When the question comes.
        **overrides: Fields of :class:`OcspForm`, of each answer.
    """
    return [ocsp_answer(child, issuer, at, **overrides) for child, issuer in pairwise(path)]

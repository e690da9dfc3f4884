"""The signature of an answer, where it is asked for on a route of its own."""

from __future__ import annotations

from dataclasses import replace

from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch import Get, Got
from teeverify.client.network.steps import Steps, wait
from teeverify.client.session.exchange import Exchange
from teeverify.errors import EndpointUnavailable, ResponseNotVerified, SignatureUnavailable

__all__ = ["fetch_signature"]

_MAX_SIGNATURE = 64 * 1024
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_BUSY = (_NOT_FOUND, 425, 429, 500, 502, 503, 504)
# A server that stores the signature before the last byte has it at once; others take a moment. Of
# several that share no store only one has it, so it is asked for often: of two, chance misses the
# right one once in 2 to the 14th.
_PAUSES = (0.02, 0.03, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.6, 0.8)


def fetch_signature(
    endpoint: Endpoint,
    exchange: Exchange,
    answer_id: str | None,
    *,
    model: str | None,
    timeout: float,
) -> Steps[bytes]:
    """Ask for an answer's signature; again for a while where there is none yet.

    Args:
        endpoint: The endpoint.
        exchange: The exchange.
        answer_id: The answer's id.
        model: The model that was asked for.
        timeout: Seconds that one request may take.

    Raises:
        ResponseNotVerified: The answer has no id.
        SignatureUnavailable: There is none.
        EndpointUnavailable: The endpoint cannot be asked.
    """
    if answer_id is None:
        raise ResponseNotVerified(
            "the answer names no id under which its signature could be asked for",
            id="answer.signature",
            hint="Pass signature= or id=.",
        )
    get = Get(
        url=endpoint.signature_url(answer_id, model),
        what="signature",
        cap=_MAX_SIGNATURE,
        timeout=timeout,
        authorization=exchange.authorization,
    )
    pauses = iter(_PAUSES)
    while True:
        pause = next(pauses, None)
        try:
            got: Got = yield get
        except EndpointUnavailable as error:
            # A connection that was closed while idle; nothing else gets better by itself.
            if pause is None or error.id != "endpoint.unreachable":
                raise
        else:
            if got.status == _OK:
                return got.body
            if pause is None or got.status not in _BUSY:
                raise _no_signature(got.status)
        yield wait(pause)
        # Another connection may lead to another machine, which has it.
        get = replace(get, last=True)


def _no_signature(status: int) -> SignatureUnavailable:
    """The error for a signature route that has none."""
    hint = "Without a signature nothing shows who made the answer; ask again."
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        hint = "The signature route wants another key than the answer: see api_key."
    return SignatureUnavailable(
        "the endpoint has no signature for this answer",
        id="answer.signature",
        got=f"status {status}",
        want="status 200",
        hint=hint,
    )

"""The OHTTP key that NEAR's machines show beside their reports (RFC 9458)."""

from __future__ import annotations

from teeverify.appraisal.evidence import OhttpKey
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence

__all__ = ["read_ohttp_key"]


def read_ohttp_key(report: JsonObject, *, id: str) -> OhttpKey | None:
    """Read ``ohttp_attestation``, which signs the key configuration, where there is one.

    Args:
        report: The object that holds it.
        id: Check id for the errors.

    Raises:
        MalformedEvidence: A member is missing or has another form.
    """
    if "ohttp_attestation" not in report:
        return None
    attestation = report.object("ohttp_attestation")
    if attestation.text("signing_algo") != "ed25519":
        raise MalformedEvidence(
            f"{attestation.path}.signing_algo: unknown",
            id=id,
            field=f"{attestation.path}.signing_algo",
            got=attestation.text("signing_algo")[:40],
            want="ed25519",
        )
    return OhttpKey(
        config=attestation.hex("key_config"),
        signer=attestation.hex("signing_key", 32),
        signature=attestation.hex("signature", 64),
        shown=report.hex("ohttp_key_config") if "ohttp_key_config" in report else None,
    )

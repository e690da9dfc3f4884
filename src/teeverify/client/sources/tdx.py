"""Sources that hold Intel's quote of a TD: alone, in an agent's answer, or in Azure's evidence."""

from __future__ import annotations

import re
from typing import Any

from teeverify import tdx
from teeverify.appraisal import evidence as neutral
from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import any_base64_bytes, hex_bytes
from teeverify.errors import MalformedEvidence

__all__ = [
    "from_azure",
    "from_bytes",
    "from_get_quote",
    "from_text",
    "is_azure",
    "is_get_quote",
    "is_quote",
]

_ID = "source"
_AZURE = frozenset({"hcl_report", "td_quote", "tpm_quote"})
_QUOTE_VERSIONS = (3, 4, 5)
_TEE_TYPES = (0x00, 0x81)
# Version 3 to 5, P-256 or P-384, SGX or TDX: what a quote begins with.
_HEX_QUOTE = re.compile(r"0[345]000[23]00(?:00|81)000000")
_BASE64_QUOTE = re.compile(r"(?:AwA|BAA|BQA)[CD]A(?:AA|IE)AAA")


def is_quote(raw: bytes) -> bool:
    """Whether bytes begin as a quote does."""
    version = int.from_bytes(raw[:2], "little")
    tee = int.from_bytes(raw[4:8], "little")
    return len(raw) >= 8 and version in _QUOTE_VERSIONS and tee in _TEE_TYPES  # noqa: PLR2004


def from_bytes(raw: bytes, name: str) -> neutral.Evidence:
    """Evidence of a quote that stands alone."""
    return _evidence(raw, name)


def from_text(text: str, name: str) -> neutral.Evidence | None:
    """Evidence of a quote that stands alone, in hex or base64; ``None`` where it is none.

    Raises:
        MalformedEvidence: It begins as a quote does, and then something else follows.
    """
    quote = _in_text(text)
    return None if quote is None else _evidence(quote, name)


def is_get_quote(value: Any) -> bool:  # noqa: ANN401 -- decoded JSON
    """Whether decoded JSON is a guest agent's answer."""
    return isinstance(value, dict) and isinstance(value.get("quote"), str)


def from_get_quote(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401 -- decoded JSON
    """The answer of a guest agent: dstack's GetQuote, or a quote with other things beside it.

    Raises:
        MalformedEvidence: Its quote is none.
    """
    quote = _in_text(value["quote"])
    if quote is None:
        raise MalformedEvidence(
            "source.quote: no TDX quote",
            id=_ID,
            field="source.quote",
            got=ascii(value["quote"][:40]),
            want="a quote in hexadecimal or base64",
        )
    return _evidence(quote, name, event_log=value.get("event_log"))


def is_azure(value: Any) -> bool:  # noqa: ANN401 -- decoded JSON
    """Whether decoded JSON is an Azure TD's evidence."""
    return isinstance(value, dict) and value.keys() >= _AZURE


def from_azure(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401 -- decoded JSON
    """Evidence of an Azure TD, whose virtual TPM quoted what was booted.

    Raises:
        MalformedEvidence: It cannot be read.
    """
    azure, quote = tdx.parse_azure_evidence(JsonObject(value, path="azure", id="azure.hcl"))
    hcl = tdx.parse_hcl_report(azure.hcl)
    machine = Machine(
        role="component",
        label="quote",
        quote=quote,
        azure=azure,
        layout="hcl",
        commits=Bound(runtime_claims=hcl.claims, runtime_hash=hcl.hash_name),
    )
    return neutral.Evidence(
        kind="component",
        provider="an Azure confidential VM's evidence",
        source=name,
        machines=(machine,),
    )


def _in_text(text: str) -> bytes | None:
    """A quote in hex or base64, with or without line breaks and quotation marks around it.

    Raises:
        MalformedEvidence: It begins as a quote does, and then something else follows.
    """
    joined = "".join(text.split())
    if joined[:1] == joined[-1:] == '"':
        joined = joined[1:-1]
    digits = joined[2:] if joined[:2] in ("0x", "0X") else joined
    if _HEX_QUOTE.match(digits):
        return hex_bytes(digits, field="source", id=_ID)
    if not _BASE64_QUOTE.match(joined):
        return None
    return any_base64_bytes(joined, field="source", id=_ID)


def _evidence(quote: bytes, name: str, **parts: Any) -> neutral.Evidence:  # noqa: ANN401 -- of the machine
    machine = Machine(role="component", label="quote", quote=quote, **parts)
    return neutral.Evidence(
        kind="component", provider="a TDX quote", source=name, machines=(machine,)
    )

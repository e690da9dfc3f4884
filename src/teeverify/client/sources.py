"""Work out what a source is, and read it. What was recognised is part of every result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from teeverify.appraisal import evidence as neutral
from teeverify.appraisal.evidence import Machine
from teeverify.client import snp_sources, tdx_sources
from teeverify.client.receipt_evidence import evidence_of
from teeverify.client.unrecognised import guess
from teeverify.encoding.strict import any_base64_bytes, hex_bytes, json_value
from teeverify.endorsements import is_directory
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.nvidia.cmw import is_collection
from teeverify.providers import DIALECTS, load_capture
from teeverify.providers.dialect import Recorded
from teeverify.render.html import embedded_receipt, is_report
from teeverify.responses.receipt_reader import is_receipt, read_receipt

__all__ = ["Evidence", "Source", "is_url", "load_evidence", "read_bytes"]

Source: TypeAlias = "str | Path | bytes | neutral.Evidence | None"
_ID = "source"
_MAX_SOURCE = 4 * 1024 * 1024
_QUOTE_VERSIONS = (3, 4, 5)
_TEE_TYPES = (0x00, 0x81)
_JSON_STARTS = (b"{", b"[")
_SPACE = b" \t\r\n"
# Version 3 to 5, P-256 or P-384, SGX or TDX: what a quote begins with.
_HEX_QUOTE = re.compile(r"0[345]000[23]00(?:00|81)000000")
_BASE64_QUOTE = re.compile(r"(?:AwA|BAA|BQA)[CD]A(?:AA|IE)AAA")


class Evidence(neutral.Evidence):
    """Everything that one source holds. Untrusted: nothing in it was verified."""

    @classmethod
    def load(cls, source: Source, *, dialect: str | None = None) -> Evidence:
        """Read evidence from a recorded directory, a file or bytes, and verify nothing.

        Raises:
            ConfigurationError: The source is not there or cannot be read.
            MalformedEvidence: It has no form that is known here, or more than one.
        """
        found = load_evidence(source, dialect=dialect)
        return cls(**{field.name: getattr(found, field.name) for field in fields(found)})


def load_evidence(source: Source, *, dialect: str | None = None) -> neutral.Evidence:
    """Read evidence from wherever it is.

    Args:
        source: A recorded directory, a file, bytes, evidence that was read before, or ``None`` if
            there is only an answer.
        dialect: The provider's dialect, for a report that was saved without its URL.

    Raises:
        ConfigurationError: The source is not there or cannot be read.
        MalformedEvidence: It has no form that is known here, or more than one.
    """
    if isinstance(source, neutral.Evidence):
        return source
    if source is None:
        return neutral.Evidence(
            kind="none", provider="an answer and its signature", source="arguments"
        )
    if isinstance(source, bytes):
        return _from_bytes(source, "bytes", dialect)
    if is_url(source):
        raise ConfigurationError(
            "a live endpoint can only be verified, for it is asked a new question every time",
            id="usage.source",
            got=source[:80],
            want="a file or a directory with recorded answers",
        )
    if not isinstance(source, (str, Path)):
        raise ConfigurationError(
            "a source is a path, bytes or Evidence", id="usage.source", got=type(source).__name__
        )
    path = Path(source)
    if is_directory(path):
        return load_capture(path, dialect=dialect)
    return _from_bytes(read_bytes(path, what="source"), path.name, dialect)


def is_url(source: Source) -> TypeGuard[str]:
    """Whether a source is the address of an endpoint."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def read_bytes(path: str | Path, *, what: str) -> bytes:
    """Read a file that the caller named.

    Raises:
        ConfigurationError: It is not there or cannot be read.
        MalformedEvidence: It is larger than anything that is read here.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_SOURCE + 1)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(
            f"the {what} cannot be read: {reason}", id="usage.source", got=str(path)[:200]
        ) from None
    if len(data) > _MAX_SOURCE:
        raise MalformedEvidence(
            f"the {what} is too large",
            id=_ID,
            field=what,
            offset=0,
            need=f"at most {_MAX_SOURCE} bytes",
            have="more",
        )
    return data


def _from_bytes(raw: bytes, name: str, dialect: str | None) -> neutral.Evidence:
    if len(raw) > _MAX_SOURCE:
        raise MalformedEvidence(
            "the source is too large",
            id=_ID,
            field="source",
            offset=0,
            need=f"at most {_MAX_SOURCE} bytes",
            have=len(raw),
        )
    if dialect is not None:
        return _report(raw, name, dialect)
    if is_report(raw):
        return _from_json(embedded_receipt(raw), name)
    if raw.lstrip(_SPACE).startswith(_JSON_STARTS):
        return _from_json(raw, name)
    # First, as its version fills the four bytes in which a quote names its kind of key too.
    if snp_sources.is_snp(raw):
        return snp_sources.from_bytes(raw, name)
    if _is_quote(raw):
        return _quote(raw, name)
    found = _quote_in_text(raw.decode("latin-1"))
    if found is None:
        raise _unknown(raw)
    return _quote(found, name)


def _unknown(raw: bytes) -> MalformedEvidence:
    likely = guess(raw)
    return MalformedEvidence(
        "unsupported evidence format",
        id=_ID,
        field="source",
        offset=0,
        got=f"{len(raw)} bytes starting {raw[:8].hex()}" if likely is None else likely.what,
        want="a recorded directory, a receipt, a TDX quote, an AMD SEV-SNP report, GPU evidence, "
        "or a report with --dialect",
        hint=None if likely is None else likely.hint,
    )


def _is_quote(raw: bytes) -> bool:
    version = int.from_bytes(raw[:2], "little")
    tee = int.from_bytes(raw[4:8], "little")
    return len(raw) >= 8 and version in _QUOTE_VERSIONS and tee in _TEE_TYPES  # noqa: PLR2004


def _quote_in_text(text: str) -> bytes | None:
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


def _quote(raw: bytes, name: str, **parts: Any) -> neutral.Evidence:  # noqa: ANN401
    machine = Machine(role="component", label="quote", quote=raw, **parts)
    return neutral.Evidence(
        kind="component", provider="a TDX quote", source=name, machines=(machine,)
    )


def _from_json(raw: bytes, name: str) -> neutral.Evidence:
    value = _opened(json_value(raw, field="source", id=_ID))
    found = [read for matches, read in _JSON_FORMS if matches(value)]
    if not found:
        raise _unknown(raw)
    if len(found) > 1:
        raise MalformedEvidence(
            "the source matches more than one form",
            id=_ID,
            field="source",
            offset=0,
            got=f"{len(found)} forms",
            want="exactly one",
        )
    return found[0](value, name)


def _opened(value: Any) -> Any:  # noqa: ANN401
    """Without the envelope of attestation-rs, which only says what the evidence inside shows."""
    if isinstance(value, dict) and value.keys() == {"platform", "evidence"}:
        return value["evidence"]
    return value


def _is_gpu_evidence(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, dict):
        return "evidence_list" in value or is_collection(value)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "evidence" in item for item in value)
    )


def _gpu_evidence(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401
    machine = Machine(role="component", label="gpus", gpus=value)
    return neutral.Evidence(
        kind="component", provider="NVIDIA GPU evidence", source=name, machines=(machine,)
    )


def _is_get_quote(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and isinstance(value.get("quote"), str)


def _get_quote(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401
    """The answer of a guest agent: dstack's GetQuote, or a quote with other things beside it."""
    quote = _quote_in_text(value["quote"])
    if quote is None:
        raise MalformedEvidence(
            "source.quote: no TDX quote",
            id=_ID,
            field="source.quote",
            got=ascii(value["quote"][:40]),
            want="a quote in hexadecimal or base64",
        )
    return _quote(quote, name, event_log=value.get("event_log"))


def _receipt(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401
    return evidence_of(read_receipt(value), source=name)


_JSON_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], neutral.Evidence]], ...] = (
    (_is_gpu_evidence, _gpu_evidence),
    (_is_get_quote, _get_quote),
    (is_receipt, _receipt),
    (snp_sources.is_azure, snp_sources.from_azure),
    (tdx_sources.is_azure, tdx_sources.from_azure),
)


def _report(raw: bytes, name: str, dialect: str) -> neutral.Evidence:
    """A report that was saved without its URL: no option was requested, says the caller."""
    if not isinstance(dialect, str) or dialect not in DIALECTS:
        raise ConfigurationError(
            "no such dialect", id="usage.dialect", got=repr(dialect)[:40], want=", ".join(DIALECTS)
        )
    chosen = DIALECTS[dialect]
    exchange = Recorded(path=chosen.report_path, query={}, body=raw, peer_spki_sha256=None)
    enclosed = chosen.enclosed(raw)
    return neutral.Evidence(
        kind="endpoint",
        provider=chosen.id,
        source=name,
        machines=chosen.machines(exchange),
        tdx_endorsements=enclosed.tdx,
        nvidia_endorsements=enclosed.nvidia,
    )

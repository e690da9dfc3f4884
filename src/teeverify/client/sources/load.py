"""Work out what a source is, and read it. What was recognised is part of every result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from teeverify.appraisal import evidence as neutral
from teeverify.client.sources import nvidia, snp, tdx
from teeverify.client.sources.files import read_bytes, require_size
from teeverify.client.sources.receipt import evidence_of
from teeverify.client.sources.unrecognised import guess
from teeverify.encoding.strict import json_value
from teeverify.endorsements import is_directory
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.providers import DIALECTS, load_capture
from teeverify.providers.dialect import Recorded
from teeverify.render.html import embedded_receipt, is_report
from teeverify.responses.receipt_reader import is_receipt, read_receipt

__all__ = ["Evidence", "Source", "is_url", "load_evidence"]

Source: TypeAlias = "str | Path | bytes | neutral.Evidence | None"
_ID = "source"
_JSON_STARTS = (b"{", b"[")
_SPACE = b" \t\r\n"


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


def _from_bytes(raw: bytes, name: str, dialect: str | None) -> neutral.Evidence:
    require_size(raw, "source")
    if dialect is not None:
        return _report(raw, name, dialect)
    if is_report(raw):
        return _from_json(embedded_receipt(raw), name)
    if raw.lstrip(_SPACE).startswith(_JSON_STARTS):
        return _from_json(raw, name)
    # First, as its version fills the four bytes in which a quote names its kind of key too.
    if snp.is_snp(raw):
        return snp.from_bytes(raw, name)
    if tdx.is_quote(raw):
        return tdx.from_bytes(raw, name)
    found = tdx.from_text(raw.decode("latin-1"), name)
    if found is None:
        raise _unknown(raw)
    return found


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


def _receipt(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401
    return evidence_of(read_receipt(value), source=name)


_JSON_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], neutral.Evidence]], ...] = (
    (nvidia.is_evidence, nvidia.from_json),
    (tdx.is_get_quote, tdx.from_get_quote),
    (is_receipt, _receipt),
    (snp.is_azure, snp.from_azure),
    (tdx.is_azure, tdx.from_azure),
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

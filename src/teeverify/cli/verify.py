"""``teeverify verify``: one source, several, or many receipts."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from teeverify.appraisal import AttestationResult
from teeverify.audit import is_records
from teeverify.cli.faces import error_dict, print_result, summary_of, width_of
from teeverify.cli.files import write_output
from teeverify.cli.many import verify_many
from teeverify.client import Verifier
from teeverify.client.memory import EndpointMemory
from teeverify.client.receipts import Receipt
from teeverify.client.receipts.recording import receipt_of_recording
from teeverify.client.sources import is_url, read_bytes
from teeverify.client.vendors.nvidia import NvidiaEndorsements
from teeverify.encoding.strict import MAX_JSON_BYTES
from teeverify.errors import WORST_FIRST, ConfigurationError, TeeVerifyError
from teeverify.render import embedded_receipt, is_report, render_report, render_table
from teeverify.render.ear import write_ear
from teeverify.responses.receipt import SCHEMA
from teeverify.roots import TimestampRoots, UnsafeTestRoots

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from teeverify.client.verifier import Arguments

__all__ = ["appraised", "verifier_of", "verify"]


def verifier_of(options: argparse.Namespace, *, accepts: bool = False) -> Verifier:
    """The verifier that a command's flags ask for.

    Args:
        options: The flags.
        accepts: Whether other code than remembered is accepted at an endpoint (``policy pin``).

    Raises:
        ConfigurationError: A policy, roots or endorsements that cannot be read.
    """
    roots = options.unsafe_test_roots
    stamps = getattr(options, "timestamp_roots", None)
    live = accepts and is_url(options.source)
    return Verifier(
        policy=getattr(options, "policy", "genuine"),
        roots=UnsafeTestRoots.load(roots) if roots else None,
        endorsements=options.endorsements,
        offline=getattr(options, "offline", not live),
        memory=EndpointMemory(accepts=accepts),
        timestamp_roots=TimestampRoots.load(stamps) if stamps else None,
        nvidia=NvidiaEndorsements(nras=options.nras) if getattr(options, "nras", None) else None,
    )


def verify(options: argparse.Namespace) -> int:
    """Verify what the flags name.

    Raises:
        ConfigurationError: Flags that contradict each other, or name what is not there.
    """
    sources = list(options.sources)
    if options.attestation is not None:
        if sources:
            raise ConfigurationError(
                "give the signer's evidence as SOURCE or as --attestation, not both",
                id="usage.arguments",
            )
        sources = [options.attestation]
    if not sources and not (options.answer or options.signature or options.request):
        raise ConfigurationError(
            "there is nothing to verify",
            id="usage.arguments",
            want="a SOURCE, or --answer with --signature",
        )
    if any(is_records(source) for source in sources if not is_url(source)):
        return verify_many(sources, options)
    if (options.html or options.ear) is not None and len(sources) > 1:
        raise ConfigurationError("--html and --ear are of one source", id="usage.arguments")
    verifier = verifier_of(options)
    outcomes = [
        appraised(
            verifier,
            source,
            nonce=options.nonce,
            at=options.at,
            answer=options.answer,
            request=options.request,
            signature=options.signature,
            scope=options.scope,
            model=options.model,
            dialect=options.dialect,
            allow_attested_later=options.allow_attested_later,
        )
        for source in sources or [None]
    ]
    if len(outcomes) == 1:
        _write_html(outcomes[0], sources, options)
        _write_ear(outcomes[0], options)
        _save(outcomes[0], sources, options)
        return _print_one(outcomes[0], options)
    return _print_many(sources, outcomes, options)


def appraised(
    verifier: Verifier, source: str | None, **arguments: Unpack[Arguments]
) -> AttestationResult | TeeVerifyError:
    """A result, or the error that kept the source from being read at all.

    Raises:
        ConfigurationError: A wrong argument, or a source that is not there.
    """
    try:
        return verifier.appraise(source, **arguments)
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        return error


def _print_one(outcome: AttestationResult | TeeVerifyError, options: argparse.Namespace) -> int:
    if isinstance(outcome, TeeVerifyError):
        text = (
            json.dumps(error_dict(outcome, simulated=bool(options.unsafe_test_roots)), indent=2)
            if options.json
            else summary_of(outcome)
        )
        print(text)
        return outcome.exit_code
    print_result(outcome, as_json=options.json, everything=options.all)
    return outcome.exit_code


def _write_html(
    outcome: AttestationResult | TeeVerifyError, sources: list[str], options: argparse.Namespace
) -> None:
    """The report of one result, with its receipt in it where it is of one."""
    if options.html is None:
        return
    if isinstance(outcome, TeeVerifyError):
        print("teeverify: there is no result, so no report is written", file=sys.stderr)
        return
    receipt = _receipt(sources[0]) if sources and outcome.receipt is not None else None
    answer = None if options.answer is None else read_bytes(options.answer, what="answer")
    if answer is None and receipt is not None:
        answer = Receipt.load(receipt).parts.response.raw
    text = render_report(outcome, receipt=receipt, answer=answer).encode("utf-8")
    if len(text) > MAX_JSON_BYTES:
        raise ConfigurationError(
            "the report would be too large to be verified again", id="usage.html"
        )
    write_output(options.html, text)


def _write_ear(outcome: AttestationResult | TeeVerifyError, options: argparse.Namespace) -> None:
    """The result as a statement of the holder of a local key."""
    if (options.ear is None) != (options.ear_key is None):
        raise ConfigurationError("--ear and --ear-key go together", id="usage.arguments")
    if options.ear is None:
        return
    if isinstance(outcome, TeeVerifyError):
        print("teeverify: there is no result, so nothing is stated", file=sys.stderr)
        return
    write_output(options.ear, write_ear(outcome, options.ear_key).encode("ascii"))


def _save(
    outcome: AttestationResult | TeeVerifyError, sources: list[str], options: argparse.Namespace
) -> None:
    """The receipt of an answer that was verified with a recording; it holds both texts."""
    if options.save is None or isinstance(outcome, TeeVerifyError):
        return
    given = [options.answer, options.request, options.signature]
    if not sources or None in given:
        raise ConfigurationError(
            "--save needs a recording and an answer",
            id="usage.arguments",
            want="--attestation, --answer, --request and --signature",
        )
    answer, request, signature = (read_bytes(name, what="answer") for name in given)
    receipt = receipt_of_recording(
        sources[0],
        outcome,
        dialect=options.dialect,
        request=request,
        answer=answer,
        signature=signature,
    )
    receipt.save(options.save, include="bytes")


def _receipt(source: str) -> bytes | None:
    """The receipt's own bytes, also out of a report."""
    raw = read_bytes(source, what="receipt")
    raw = embedded_receipt(raw) if is_report(raw) else raw
    return raw if SCHEMA.encode("ascii") in raw else None


def _print_many(
    sources: list[str],
    outcomes: list[AttestationResult | TeeVerifyError],
    options: argparse.Namespace,
) -> int:
    codes = {outcome.exit_code for outcome in outcomes}
    worst = next(code for code in WORST_FIRST if code in codes)
    if options.json:
        items = [
            {
                **(
                    error_dict(o, simulated=bool(options.unsafe_test_roots))
                    if isinstance(o, TeeVerifyError)
                    else o.to_dict()
                ),
                "source": source,
            }
            for source, o in zip(sources, outcomes, strict=True)
        ]
        print(json.dumps({"schema": "teeverify.results/1", "exit_code": worst, "results": items}))
        return worst
    rows = [
        (source, outcome.exit_code, summary_of(outcome))
        for source, outcome in zip(sources, outcomes, strict=True)
    ]
    print(render_table(rows, width=width_of(sys.stdout)))
    return worst

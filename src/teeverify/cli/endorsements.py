"""``teeverify endorsements``: fetch, show, export, import and prune what vendors endorse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from teeverify import nvidia, snp, tdx
from teeverify.cli.endorsements_amd import (
    add_amd_flags,
    amd_pieces,
    amd_source,
    asked_of_amd,
    describe,
)
from teeverify.cli.endorsements_nvidia import (
    Row,
    add_nvidia_flags,
    describe_nvidia,
    fetch_nvidia,
    nvidia_rows,
)
from teeverify.cli.files import write_output
from teeverify.client.sources import load_evidence
from teeverify.client.vendors.given import load_given
from teeverify.client.vendors.intel import IntelEndorsements
from teeverify.clock import now, parse_time, show_time
from teeverify.crypto.crl import Crl
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.encoding.text import counted
from teeverify.endorsements import Answer, read_bundle, read_file, write_bundle
from teeverify.endorsements.fetch import Fetcher
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import (
    EXIT_SATISFIED,
    ConfigurationError,
    EndorsementUnavailable,
    MalformedEvidence,
    TeeVerifyError,
)
from teeverify.nvidia.recorded import is_of_nvidia
from teeverify.render import printable
from teeverify.snp.recorded import read_answer
from teeverify.tdx.documents import Tee
from teeverify.tdx.pcs import Platform, platform_of
from teeverify.tdx.pool import Pool

__all__ = ["add_endorsements", "endorsements"]

_FMSPC_BYTES = 6
_MAX_NUMBER_DIGITS = 5


def add_endorsements(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    fetch = verbs.add_parser(
        "fetch",
        help="fetch what quotes and reports, or a model of CPU, or a chip, need",
        description="Fetch what the Intel quotes, AMD reports and NVIDIA devices of a source need, "
        "or what one model of Intel's CPUs or one AMD chip needs, and keep it. The host is yours "
        "to choose; no URL is taken from evidence.",
    )
    fetch.add_argument(
        "source", nargs="?", metavar="SOURCE", help="evidence with quotes, reports or GPUs"
    )
    fetch.add_argument("--fmspc", metavar="HEX", help="the model of CPU, in place of a source")
    fetch.add_argument(
        "--ca",
        choices=("platform", "processor"),
        default="platform",
        help="with --fmspc: which of Intel's CAs vouches for the CPU; default: platform",
    )
    fetch.add_argument("--sgx", action="store_true", help="for SGX enclaves, not TDs")
    fetch.add_argument("--pccs", metavar="URL", help="https://HOST[:PORT] of a caching service")
    fetch.add_argument("--ca-file", metavar="F", help="PEM file of who vouches for that host")
    fetch.add_argument("--update", choices=("standard", "early"), help="which of Intel's data sets")
    fetch.add_argument("--number", type=_number, metavar="N", help="one data set by its number")
    fetch.add_argument(
        "--timeout", type=float, default=20.0, metavar="SECONDS", help="of a request; default: 20"
    )
    fetch.add_argument("--to", metavar="F", help="write a bundle too")
    add_amd_flags(fetch)
    add_nvidia_flags(fetch)
    show = verbs.add_parser("show", help="list what is kept, or what a file or directory holds")
    show.add_argument("path", nargs="?", metavar="PATH", help="default: what is kept here")
    export = verbs.add_parser("export", help="write everything kept into one file")
    export.add_argument("path", metavar="F", help="the file that is written")
    load = verbs.add_parser("import", help="keep what such a file holds")
    load.add_argument("path", metavar="F", help="a file that 'export' or 'fetch --to' wrote")
    prune = verbs.add_parser("prune", help="forget what is out of date, or cannot be read")
    prune.add_argument("--at", metavar="TIME", help="out of date at this time; default: now")
    for verb in (fetch, show, export, load, prune):
        verb.add_argument("--cache", metavar="DIR", help="where answers are kept")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_NUMBER_DIGITS:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


def endorsements(options: argparse.Namespace) -> int:
    """Run one of the verbs."""
    verbs: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "fetch": _fetch,
        "show": _show,
        "export": _export,
        "import": _import,
        "prune": _prune,
    }
    return verbs[options.verb](options)


def _store(options: argparse.Namespace) -> Store:
    return Store(default_folder() if options.cache is None else options.cache)


def _fetch(options: argparse.Namespace) -> int:
    named = [value for value in (options.source, options.fmspc, options.chip) if value is not None]
    if len(named) != 1:
        raise ConfigurationError(
            "give a SOURCE, --fmspc or --chip", id="usage.arguments", want="one of them"
        )
    machines = () if options.source is None else load_evidence(options.source).machines
    quotes = [machine.quote for machine in machines if machine.quote is not None]
    reports = [machine.snp_report for machine in machines if machine.snp_report is not None]
    gpus = [machine.gpus for machine in machines if machine.gpus is not None]
    if options.source is not None and not (quotes or reports or gpus):
        raise ConfigurationError(
            "the source holds no Intel quote, no AMD report and no GPU evidence", id="usage.source"
        )
    store, at = _store(options), now()
    urls = _fetch_intel(options, quotes, store, at) + _fetch_amd(options, reports, store, at)
    if gpus:
        more, found = fetch_nvidia(options, gpus, store, at)
        urls += more
        _print_rows(describe_nvidia(found), at)
    if options.to is not None:
        kept = [answer for url in dict.fromkeys(urls) if (answer := store.load(url))]
        _write(options.to, kept)
    return EXIT_SATISFIED


def _fetch_intel(
    options: argparse.Namespace, quotes: list[bytes], store: Store, at: datetime
) -> list[str]:
    platforms = _platforms(options, quotes)
    if not platforms:
        return []
    intel = IntelEndorsements(
        host=options.pccs,
        channel=options.update,
        evaluation_number=options.number,
        fetcher=Fetcher(timeout=options.timeout, ca_file=options.ca_file),
        cache=store,
    )
    urls: list[str] = []
    for platform in platforms:
        for pool in intel.pools(platform, at=at, refresh=True):
            _print_pool(pool, at)
        urls += [question.url for question in intel.service.questions(platform)]
    for tee in dict.fromkeys(platform.tee for platform in platforms):
        urls += _fetch_data_sets(intel, tee, at)
    return urls


def _fetch_data_sets(intel: IntelEndorsements, tee: Tee, at: datetime) -> list[str]:
    """Intel's list of data sets, which not every caching service has and few checks need."""
    try:
        _print_pool(intel.list_of_data_sets(tee, at=at, refresh=True), at)
    except EndorsementUnavailable as error:
        print(f"  {printable(error.message)}")
        return []
    return [intel.service.numbers_question(tee).url]


def _fetch_amd(
    options: argparse.Namespace, reports: list[bytes], store: Store, at: datetime
) -> list[str]:
    asked = asked_of_amd(options, reports)
    if not asked:
        return []
    for found in amd_source(options, store).ask(asked, at=at, refresh=True):
        _print_found(found, at)
    return [question.url for question in asked]


def _platforms(options: argparse.Namespace, quotes: list[bytes]) -> tuple[Platform, ...]:
    if options.fmspc is not None:
        fmspc = _fmspc(options.fmspc)
        tee: Tee = "SGX" if options.sgx else "TDX"
        return (Platform(tee=tee, fmspc=fmspc, ca=options.ca),)
    return tuple(dict.fromkeys(platform_of(tdx.parse_quote(quote)) for quote in quotes))


def _fmspc(text: str) -> bytes:
    try:
        return hex_bytes(text, field="--fmspc", id="usage.arguments", length=_FMSPC_BYTES)
    except MalformedEvidence as error:
        raise ConfigurationError(
            error.message, id="usage.arguments", got=error.got, want="12 hexadecimal digits"
        ) from None


def _show(options: argparse.Namespace) -> int:
    at = now()
    if options.path is not None:
        given = load_given(options.path)
        if given.tdx is not None:
            _print_pool(given.tdx.pool, at)
        if given.snp is not None:
            _print_found(given.snp.found, at)
        if given.nvidia is not None:
            _print_rows(describe_nvidia(given.nvidia), at)
        return EXIT_SATISFIED
    store = _store(options)
    print(f"{printable(str(store.folder))}: nothing here was verified")
    for answer in store.answers():
        print(printable(answer.url))
        rows = nvidia_rows(answer)
        pool, found = _readable(answer), amd_pieces(answer)
        if rows is not None:
            _print_rows(rows, at)
        elif pool is None or found is None:
            print("  cannot be read")
        else:
            _print_pool(pool, at)
            _print_found(found, at)
    for name, number in sorted(store.counters().items()):
        print(f"seen: {printable(name)} {number}")
    return EXIT_SATISFIED


def _print_rows(rows: Iterable[Row], at: datetime) -> None:
    for what, start, end in rows:
        _print_one(what, start, end, at)


def _readable(answer: Answer) -> Pool | None:
    try:
        return tdx.Endorsements.of(answer).pool
    except TeeVerifyError:
        return None


def _print_pool(pool: Pool, at: datetime) -> None:
    for info in (entry.item for entry in pool.tcb_infos):
        what = f"TCB info {info.tee} {info.fmspc.hex()}, data set {info.evaluation_data_number}"
        _print_one(what, info.issue_date, info.next_update, at)
    for identity in (entry.item for entry in pool.qe_identities):
        what = f"QE identity {identity.tee}, data set {identity.evaluation_data_number}"
        _print_one(what, identity.issue_date, identity.next_update, at)
    for listed in (entry.item for entry in pool.evaluation_numbers):
        what = f"list of {listed.tee} data sets, the newest {listed.recoveries[0][0]}"
        _print_one(what, listed.issue_date, listed.next_update, at)
    for crl in (entry.item for entry in pool.root_crls):
        _print_crl("root revocation list", crl, at)
    for crl in (entry.item for entry in pool.pck_crls):
        _print_crl("PCK revocation list", crl, at)


def _print_found(found: snp.Found, at: datetime) -> None:
    for what, start, end in describe(found):
        if start is not None and end is not None:
            _print_one(what, start, end, at)
        else:
            print(f"  {what}" + (f": made {show_time(start)}" if start is not None else ""))


def _print_crl(what: str, crl: Crl, at: datetime) -> None:
    number = f", number {crl.number}" if crl.number is not None else ""
    _print_one(f"{what}, {len(crl.revoked)} revoked{number}", crl.this_update, crl.next_update, at)


def _print_one(what: str, start: datetime, end: datetime, at: datetime) -> None:
    state = "in force" if start <= at <= end else "out of date" if at > end else "not in force yet"
    print(f"  {what}: {show_time(start)} to {show_time(end)}, {state}")


def _export(options: argparse.Namespace) -> int:
    kept = list(_store(options).answers())
    _write(options.path, kept)
    return EXIT_SATISFIED


def _write(path: str, answers: Iterable[Answer]) -> None:
    kept = list(answers)
    write_output(path, write_bundle(kept))
    print(f"{counted(len(kept), 'answer')} written to {printable(path)}")


def _import(options: argparse.Namespace) -> int:
    """Keep only what can be read; whether it is genuine, each verification says."""
    form = JsonObject.parse(read_file(Path(options.path)), path="bundle", id="endorsements.bundle")
    answers = read_bundle(form)
    of_nvidia = nvidia.Endorsements.of(*answers)
    others = [answer for answer in answers if not is_of_nvidia(answer)]
    pieces = [(tdx.Endorsements.of(answer).pool, read_answer(answer)) for answer in others]
    store = _store(options)
    for answer in answers:
        store.save(answer)
    for pool, found in pieces:
        _print_pool(pool, now())
        _print_found(found, now())
    _print_rows(describe_nvidia(of_nvidia), now())
    return EXIT_SATISFIED


def _prune(options: argparse.Namespace) -> int:
    at = now() if options.at is None else parse_time(options.at)
    store = _store(options)
    old = [answer.url for answer in store.answers() if _is_old(answer, at)]
    store.remove(old)
    print(f"{counted(len(old), 'answer')} forgotten")
    return EXIT_SATISFIED


def _is_old(answer: Answer, at: datetime) -> bool:
    rows = nvidia_rows(answer)
    if rows is not None:
        return not rows or min(end for _, _, end in rows) < at
    pool, found = _readable(answer), amd_pieces(answer)
    if pool is None or found is None:
        return True
    ends = [entry.item.next_update for entry in pool.tcb_infos]
    ends += [entry.item.next_update for entry in pool.qe_identities]
    ends += [entry.item.next_update for entry in pool.evaluation_numbers]
    ends += [entry.item.next_update for entry in (*pool.root_crls, *pool.pck_crls)]
    ends += [end for _, _, end in describe(found) if end is not None]
    return (not ends and not found.firmware) or (bool(ends) and min(ends) < at)

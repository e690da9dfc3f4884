"""``teeverify endorsements``: fetch, show, export, import and prune Intel's collateral."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from teeverify import tdx
from teeverify.client.intel import IntelEndorsements
from teeverify.client.sources import load_evidence
from teeverify.clock import now, parse_time, show_time
from teeverify.crypto.crl import Crl
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.endorsements import Answer, read_bundle, read_file, write_bundle
from teeverify.endorsements.fetch import Fetcher
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import EXIT_SATISFIED, ConfigurationError, TeeVerifyError
from teeverify.render import printable
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
        help="fetch what a quote, or a model of CPU, needs",
        description="Fetch what the quotes of a source need, or what one model of CPU needs, and "
        "keep it. The host is yours to choose; no URL is taken from evidence.",
    )
    fetch.add_argument("source", nargs="?", metavar="SOURCE", help="evidence with Intel quotes")
    fetch.add_argument("--fmspc", metavar="HEX", help="the model of CPU, in place of a source")
    fetch.add_argument("--ca", choices=("platform", "processor"), default="platform")
    fetch.add_argument("--sgx", action="store_true", help="for SGX enclaves, not TDs")
    fetch.add_argument("--pccs", metavar="URL", help="https://HOST[:PORT] of a caching service")
    fetch.add_argument("--ca-file", metavar="F", help="PEM file of who vouches for that host")
    fetch.add_argument("--update", choices=("standard", "early"), help="which of Intel's data sets")
    fetch.add_argument("--number", type=_number, metavar="N", help="one data set by its number")
    fetch.add_argument("--timeout", type=float, default=20.0, metavar="SECONDS")
    fetch.add_argument("--to", metavar="F", help="write a bundle too")
    show = verbs.add_parser("show", help="list what is kept, or what a file or directory holds")
    show.add_argument("path", nargs="?", metavar="PATH")
    export = verbs.add_parser("export", help="write everything kept into one file")
    export.add_argument("path", metavar="F")
    load = verbs.add_parser("import", help="keep what such a file holds")
    load.add_argument("path", metavar="F")
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
    intel = IntelEndorsements(
        host=options.pccs,
        channel=options.update,
        evaluation_number=options.number,
        fetcher=Fetcher(timeout=options.timeout, ca_file=options.ca_file),
        cache=_store(options),
    )
    at = now()
    urls: list[str] = []
    for platform in _platforms(options):
        for pool in intel.pools(platform, at=at, refresh=True):
            _print_pool(pool, at)
        urls += [question.url for question in intel.service.questions(platform)]
    if options.to is not None:
        kept = [answer for url in dict.fromkeys(urls) if (answer := intel.store.load(url))]
        _write(options.to, kept)
    return EXIT_SATISFIED


def _platforms(options: argparse.Namespace) -> tuple[Platform, ...]:
    if (options.source is None) == (options.fmspc is None):
        raise ConfigurationError(
            "give a SOURCE with quotes, or --fmspc", id="usage.arguments", want="one of them"
        )
    if options.fmspc is not None:
        fmspc = hex_bytes(options.fmspc, field="--fmspc", id="usage.arguments", length=_FMSPC_BYTES)
        tee: Tee = "SGX" if options.sgx else "TDX"
        return (Platform(tee=tee, fmspc=fmspc, ca=options.ca),)
    machines = load_evidence(options.source).machines
    quotes = [machine.quote for machine in machines if machine.quote is not None]
    if not quotes:
        raise ConfigurationError("the source holds no Intel quote", id="usage.source")
    return tuple(dict.fromkeys(platform_of(tdx.parse_quote(quote)) for quote in quotes))


def _show(options: argparse.Namespace) -> int:
    at = now()
    if options.path is not None:
        _print_pool(tdx.Endorsements.load(Path(options.path)).pool, at)
        return EXIT_SATISFIED
    store = _store(options)
    print(f"{printable(str(store.folder))}: nothing here was verified")
    for answer in store.answers():
        print(printable(answer.url))
        pool = _readable(answer)
        if pool is None:
            print("  cannot be read")
        else:
            _print_pool(pool, at)
    for name, number in sorted(store.counters().items()):
        print(f"seen: {printable(name)} {number}")
    return EXIT_SATISFIED


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
    for crl in (entry.item for entry in pool.root_crls):
        _print_crl("root revocation list", crl, at)
    for crl in (entry.item for entry in pool.pck_crls):
        _print_crl("PCK revocation list", crl, at)


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
    try:
        Path(path).write_bytes(write_bundle(kept))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the bundle cannot be written: {getattr(error, 'strerror', error)}",
            id="usage.output",
            got=ascii(path),
        ) from None
    print(f"{len(kept)} answers written to {printable(path)}")


def _import(options: argparse.Namespace) -> int:
    """Keep only what can be read; whether it is genuine, each verification says."""
    form = JsonObject.parse(read_file(Path(options.path)), path="bundle", id="endorsements.bundle")
    answers = read_bundle(form)
    pools = [tdx.Endorsements.of(answer).pool for answer in answers]
    store = _store(options)
    for answer in answers:
        store.save(answer)
    for pool in pools:
        _print_pool(pool, now())
    return EXIT_SATISFIED


def _prune(options: argparse.Namespace) -> int:
    at = now() if options.at is None else parse_time(options.at)
    store = _store(options)
    old = [answer.url for answer in store.answers() if _is_old(answer, at)]
    store.remove(old)
    print(f"{len(old)} answers forgotten")
    return EXIT_SATISFIED


def _is_old(answer: Answer, at: datetime) -> bool:
    pool = _readable(answer)
    if pool is None:
        return True
    ends = [entry.item.next_update for entry in pool.tcb_infos]
    ends += [entry.item.next_update for entry in pool.qe_identities]
    ends += [entry.item.next_update for entry in (*pool.root_crls, *pool.pck_crls)]
    return not ends or min(ends) < at

"""``teeverify endorsements`` for AMD's chips, and for Google's word on firmware."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime

from teeverify import snp
from teeverify.client.vendors.amd import AmdEndorsements
from teeverify.encoding.strict import hex_bytes
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher
from teeverify.endorsements.store import Store
from teeverify.errors import ConfigurationError, MalformedEvidence, TeeVerifyError
from teeverify.render import printable
from teeverify.snp.kds import (
    AMD_KDS,
    Question,
    chip_question,
    firmware_questions,
    product_questions,
    questions,
)
from teeverify.snp.recorded import read_answer

__all__ = ["add_amd_flags", "amd_pieces", "amd_source", "asked_of_amd", "describe"]

_BACKOFF = (2.0, 5.0, 10.0)
_MAX_SPL = 255
_MAX_SPL_DIGITS = 3


def add_amd_flags(fetch: argparse.ArgumentParser) -> None:
    """Add AMD's flags to ``fetch``."""
    fetch.add_argument("--chip", metavar="HEX", help="an AMD chip by its CHIP_ID, with --tcb")
    fetch.add_argument(
        "--product", choices=[str(product) for product in snp.Product], help="the chip's product"
    )
    fetch.add_argument(
        "--tcb", metavar="PARTS", help="its firmware: 'bootloader=4 tee=0 snp=29 microcode=222'"
    )
    fetch.add_argument("--kds", metavar="URL", help="https://HOST[:PORT] of a cache of AMD's KDS")
    fetch.add_argument(
        "--firmware", action="store_true", help="also Google's endorsement of a report's firmware"
    )


def asked_of_amd(options: argparse.Namespace, reports: Iterable[bytes]) -> list[Question]:
    """What to ask for: by reports, or by one chip.

    Raises:
        ConfigurationError: Flags that do not belong together, or of another form.
        EndorsementUnavailable: A report that does not say what to ask for.
        MalformedEvidence: A report that cannot be read.
    """
    base = options.kds or AMD_KDS
    product = None if options.product is None else snp.Product(options.product)
    if options.chip is not None:
        return _of_chip(options, product, base)
    asked: list[Question] = []
    for raw in reports:
        report = snp.parse_report(raw)
        asked += questions(report, base=base, with_chain=True, product=product)
        if options.firmware:
            asked += firmware_questions(report.measurement)
    return list(dict.fromkeys(asked))


def _of_chip(options: argparse.Namespace, product: snp.Product | None, base: str) -> list[Question]:
    if product is None or options.tcb is None:
        raise ConfigurationError(
            "a chip's certificate is asked for by product and firmware too",
            id="usage.arguments",
            want="--chip HEX --product NAME --tcb PARTS",
        )
    try:
        chip_id = hex_bytes(
            options.chip, field="--chip", id="usage.arguments", length=product.chip_id_bytes
        )
    except MalformedEvidence as error:
        raise ConfigurationError(error.message, id="usage.arguments") from None
    return [
        *product_questions(product, snp.Signer.VCEK, base=base, with_chain=True),
        chip_question(product, chip_id, _tcb(options.tcb, product), base=base),
    ]


def _tcb(text: str, product: snp.Product) -> snp.TcbVersion:
    parts = dict(part.partition("=")[::2] for part in text.split())
    names = snp.TcbVersion.names(product)
    numbers = {
        name: int(value)
        for name, value in parts.items()
        if value.isascii() and value.isdigit() and len(value) <= _MAX_SPL_DIGITS
    }
    if set(numbers) != set(names) or set(parts) != set(names) or max(numbers.values()) > _MAX_SPL:
        raise ConfigurationError(
            f"--tcb has another form than {product}'s firmware versions",
            id="usage.arguments",
            got=ascii(text)[:80],
            want=" ".join(f"{name}=N" for name in names),
        )
    return snp.TcbVersion(product=product, **numbers)


def amd_source(options: argparse.Namespace, store: Store) -> AmdEndorsements:
    """Where AMD's endorsements come from, as the flags say.

    Raises:
        ConfigurationError: A wrong host, time-out or file.
    """
    fetcher = Fetcher(timeout=options.timeout, ca_file=options.ca_file, backoff=_BACKOFF)
    return AmdEndorsements(host=options.kds, with_chain=True, fetcher=fetcher, cache=store)


def amd_pieces(answer: Answer) -> snp.Found | None:
    """What an answer holds of AMD's or of Google's; ``None`` where it cannot be read."""
    try:
        return read_answer(answer)
    except TeeVerifyError:
        return None


def describe(found: snp.Found) -> list[tuple[str, datetime | None, datetime | None]]:
    """What pieces there are, for people, each with its dates."""
    rows: list[tuple[str, datetime | None, datetime | None]] = []
    for leaf in found.leaves:
        of = leaf.hwid.hex()[:16] + "…" if leaf.hwid is not None else leaf.csp_id or ""
        what = f"{leaf.signer} of {leaf.product}, {printable(of)}, TCB {leaf.tcb}"
        rows.append((what, leaf.not_before, leaf.not_after))
    rows += [
        (f"CA {printable(one.common_name)}", one.not_before, one.not_after)
        for one in (*found.authorities, *found.firmware_roots)
    ]
    for crl in found.crls:
        number = f", number {crl.number}" if crl.number is not None else ""
        what = f"AMD's revocation list, {len(crl.revoked)} revoked{number}"
        rows.append((what, crl.this_update, crl.next_update))
    for raw in found.firmware:
        read = snp.parse_firmware_endorsement(raw)
        what = (
            f"Google's endorsement of firmware {read.uefi_sha384.hex()[:16]}…, version {read.svn}"
        )
        rows.append((what, read.made_at, None))
    return rows

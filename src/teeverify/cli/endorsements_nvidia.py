"""``teeverify endorsements`` for NVIDIA's GPUs and switches."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import datetime

from teeverify import nvidia
from teeverify.client.vendors.nvidia import NvidiaEndorsements
from teeverify.crypto.ocsp import MAX_AGE, parse_response
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher
from teeverify.endorsements.store import Store
from teeverify.errors import EndorsementUnavailable, TeeVerifyError
from teeverify.nvidia.recorded import is_of_nvidia
from teeverify.nvidia.services import NVIDIA_OCSP, NVIDIA_RIM, Hosts
from teeverify.render import printable
from teeverify.roots import EMBEDDED, UnsafeTestRoots

__all__ = ["Row", "add_nvidia_flags", "describe_nvidia", "fetch_nvidia", "nvidia_rows"]

Row = tuple[str, datetime, datetime]


def add_nvidia_flags(fetch: argparse.ArgumentParser) -> None:
    """Add NVIDIA's flags to ``fetch``."""
    fetch.add_argument("--rim", metavar="URL", help="https://HOST[:PORT] of a mirror of manifests")
    fetch.add_argument("--ocsp", metavar="URL", help="https://HOST[:PORT] of an OCSP forwarder")
    fetch.add_argument(
        "--unsafe-test-roots",
        metavar="F",
        help="roots of simulated GPUs, to fetch for these",
    )


def fetch_nvidia(
    options: argparse.Namespace, lists: Iterable[nvidia.RawEvidence], store: Store, at: datetime
) -> tuple[list[str], nvidia.Endorsements]:
    """Fetch what the devices of evidence need; gives the names of what is kept.

    They are verified first, for what is asked is made of what they signed.

    Raises:
        EndorsementUnavailable: Something could not be had.
        TeeVerifyError: The evidence does not verify.
    """
    roots = EMBEDDED
    if options.unsafe_test_roots is not None:
        roots = UnsafeTestRoots.load(options.unsafe_test_roots).roots
    source = NvidiaEndorsements(
        hosts=Hosts(rim=options.rim or NVIDIA_RIM, ocsp=options.ocsp or NVIDIA_OCSP),
        nras="never",
        fetcher=Fetcher(timeout=options.timeout, ca_file=options.ca_file),
        cache=store,
    )
    found = nvidia.Endorsements()
    for raw in lists:
        evidence = nvidia.parse_evidence(raw)
        nonce = evidence.devices[0].report.requester_nonce
        nvidia.verify_evidence(evidence, nonce=nonce, at=at, roots=roots)
        fetched = source.complete(evidence, found, nonce=nonce, at=at, roots=roots, refresh=True)
        if fetched.problems:
            raise EndorsementUnavailable(fetched.problems[0], id="rim.present")
        found = fetched.endorsements
    bodies = {rim.xml for rim in found.rims} | set(found.ocsp)
    urls = [answer.url for answer in store.answers() if bodies & set(_bodies(answer))]
    return urls, found


def _bodies(answer: Answer) -> Iterator[bytes]:
    if is_of_nvidia(answer):
        pieces = nvidia.Endorsements.of(answer)
        yield from (rim.xml for rim in pieces.rims)
        yield from pieces.ocsp


def nvidia_rows(answer: Answer) -> list[Row] | None:
    """What an answer of NVIDIA's holds; ``None`` where it is not one, or cannot be read."""
    try:
        return describe_nvidia(nvidia.Endorsements.of(answer)) if is_of_nvidia(answer) else None
    except TeeVerifyError:
        return None


def describe_nvidia(found: nvidia.Endorsements) -> list[Row]:
    """What pieces there are, for people, each with the dates between which it counts.

    Raises:
        MalformedEvidence: One cannot be read.
        EndorsementUnavailable: An OCSP answer is an error.
    """
    rows: list[Row] = []
    for rim in found.rims:
        path = nvidia.rim_signers(rim.xml, name=f"RIM {rim.id}")
        start = max(certificate.not_before for certificate in path)
        rows.append((f"RIM {printable(rim.id)}", start, min(one.not_after for one in path)))
    for raw in found.ocsp:
        for status in parse_response(raw, what="OCSP answer").statuses:
            end = status.this_update + MAX_AGE
            rows.append((
                f"OCSP: serial {status.cert_id.serial:x} is {status.status}",
                status.this_update,
                end if status.next_update is None else min(end, status.next_update),
            ))  # fmt: skip
    return rows

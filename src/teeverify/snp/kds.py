"""What to ask of AMD's key distribution service (KDS) for a report.

AMD document 57230, chapter 4. Only chip, product and TCB are taken from the report, to choose what
to ask for; the host never is. Nothing here opens a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from teeverify.endorsements import Answer
from teeverify.errors import EndorsementUnavailable, MalformedEvidence
from teeverify.snp.product import Product, TcbVersion, name_of_cpu
from teeverify.snp.recorded import Found, read_bytes
from teeverify.snp.report import Report, Signer

__all__ = ["AMD_KDS", "Question", "current", "questions", "vcek_url"]

AMD_KDS = "https://kdsintf.amd.com"
# The order of AMD's own examples; the names are those of the query.
_QUERY = {
    "fmc": "fmcSPL",
    "bootloader": "blSPL",
    "tee": "teeSPL",
    "snp": "snpSPL",
    "microcode": "ucodeSPL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask.

    Attributes:
        url: The whole URL.
        what: What is asked for, in words.
        id: The check that needs it.
    """

    url: str
    what: str
    id: str


def vcek_url(product: Product, chip_id: bytes, tcb: TcbVersion, *, base: str = AMD_KDS) -> str:
    """Where the certificate of a chip's key is, for one TCB.

    Args:
        product: The product.
        chip_id: CHIP_ID: 64 bytes, or 8 for Turin.
        tcb: REPORTED_TCB.
        base: ``https://HOST[:PORT]``.
    """
    values = tcb.components
    query = "&".join(
        f"{parameter}={values[name]:02d}" for name, parameter in _QUERY.items() if name in values
    )
    return f"{base.rstrip('/')}/vcek/v1/{product}/{chip_id.hex()}?{query}"


def questions(
    report: Report, *, base: str = AMD_KDS, with_chain: bool = False, with_leaf: bool = True
) -> tuple[Question, ...]:
    """All that a report needs and that AMD gives to anybody.

    Args:
        report: The report, before anything is verified.
        base: ``https://HOST[:PORT]`` of AMD's service, or of a cache of the caller's.
        with_chain: Whether to ask for the CAs too; those of AMD's are written down here.
        with_leaf: Whether to ask for the certificate of the report's key, if it is a chip's.

    Raises:
        EndorsementUnavailable: The report does not say what to ask for: it is of version 2, which
            names no product; its chip is masked; or a cloud's key signed it, whose certificate
            only the host can give.
        MalformedEvidence: An unknown product.
    """
    product = _product(report)
    kind = "vlek" if report.signer is Signer.VLEK else "vcek"
    root = f"{base.rstrip('/')}/{kind}/v1/{product}"
    found = [Question(url=f"{root}/crl", what=f"AMD's revocation list of {product}", id="snp.crl")]
    if with_chain:
        found.append(
            Question(url=f"{root}/cert_chain", what=f"AMD's CAs of {product}", id="snp.ca-chain")
        )
    if with_leaf and report.signer is Signer.VCEK:
        if report.chip_id_masked:
            raise EndorsementUnavailable(
                "the host masks the chip's name, so its certificate cannot be asked for",
                id="snp.leaf",
                hint="Give the certificate with --endorsements PATH.",
            )
        chip_id = report.chip_id[: product.chip_id_bytes]
        url = vcek_url(product, chip_id, report.tcb("reported", product), base=base)
        found.append(
            Question(url=url, what=f"the certificate of this {product} chip's key", id="snp.leaf")
        )
    return tuple(found)


def _product(report: Report) -> Product:
    if report.cpuid is None:
        raise EndorsementUnavailable(
            "a report of version 2 does not name its product, so what it needs is not known",
            id="snp.product",
            hint="Give the certificate with --endorsements PATH.",
        )
    if report.product is None:
        raise MalformedEvidence(
            f"unsupported product: {name_of_cpu(*report.cpuid[:2])}",
            id="snp.product",
            field="snp.report.cpuid",
        )
    return report.product


def current(answer: Answer, at: datetime) -> Found | None:
    """What an answer holds, if all of it is in its dates; else it must be asked for again.

    Raises:
        MalformedEvidence: It cannot be read.
    """
    found = read_bytes(answer.body)
    spans = [(leaf.not_before, leaf.not_after) for leaf in found.leaves]
    spans += [(crl.this_update, crl.next_update) for crl in found.crls]
    spans += [(one.not_before, one.not_after) for one in found.authorities]
    return found if spans and all(start <= at <= end for start, end in spans) else None

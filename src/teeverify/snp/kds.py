"""What to ask of AMD's key distribution service (KDS) for a report, and of Google for firmware.

AMD document 57230, chapter 4. Only chip, product and TCB are taken from the report, to choose what
to ask for; the host never is. Nothing here opens a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from teeverify.endorsements import Answer
from teeverify.errors import EndorsementUnavailable, MalformedEvidence
from teeverify.roots.google import GCE_TCB_ROOT
from teeverify.snp.product import Product, TcbVersion, name_of_cpu
from teeverify.snp.recorded import Found, read_bytes
from teeverify.snp.report import Report, Signer

__all__ = [
    "AMD_KDS",
    "GOOGLE_BUCKET",
    "Question",
    "chip_question",
    "current",
    "firmware_questions",
    "product_questions",
    "questions",
    "vcek_url",
]

AMD_KDS = "https://kdsintf.amd.com"
GOOGLE_BUCKET = "https://storage.googleapis.com"
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
    report: Report,
    *,
    base: str = AMD_KDS,
    with_chain: bool = False,
    with_leaf: bool = True,
    product: Product | None = None,
) -> tuple[Question, ...]:
    """All that a report needs and that AMD gives to anybody.

    Args:
        report: The report, before anything is verified.
        base: ``https://HOST[:PORT]`` of AMD's service, or of a cache of the caller's.
        with_chain: Whether to ask for the CAs too; those of AMD's are written down here.
        with_leaf: Whether to ask for the certificate of the report's key, if it is a chip's.
        product: The product, where the caller knows it and the report does not say.

    Raises:
        EndorsementUnavailable: The report does not say what to ask for: it is of version 2, which
            names no product; its chip is masked; or a cloud's key signed it, whose certificate
            only the host can give.
        MalformedEvidence: An unknown product.
    """
    line = _product(report, product)
    signer = report.signer or Signer.VCEK
    found = product_questions(line, signer, base=base, with_chain=with_chain)
    if not with_leaf or report.signer is not Signer.VCEK:
        return found
    if report.chip_id_masked:
        raise EndorsementUnavailable(
            "the host masks the chip's name, so its certificate cannot be asked for",
            id="snp.leaf",
            hint="Give the certificate with --endorsements PATH.",
        )
    chip_id = report.chip_id[: line.chip_id_bytes]
    return (*found, chip_question(line, chip_id, report.tcb("reported", line), base=base))


def product_questions(
    product: Product, signer: Signer, *, base: str = AMD_KDS, with_chain: bool = False
) -> tuple[Question, ...]:
    """What all reports of a product need, by the kind of key that signs them."""
    kind = "vlek" if signer is Signer.VLEK else "vcek"
    root = f"{base.rstrip('/')}/{kind}/v1/{product}"
    crl = Question(url=f"{root}/crl", what=f"AMD's revocation list of {product}", id="snp.crl")
    chain = Question(url=f"{root}/cert_chain", what=f"AMD's CAs of {product}", id="snp.ca-chain")
    return (crl, chain) if with_chain else (crl,)


def chip_question(
    product: Product, chip_id: bytes, tcb: TcbVersion, *, base: str = AMD_KDS
) -> Question:
    """The certificate of one chip's key for one TCB."""
    url = vcek_url(product, chip_id, tcb, base=base)
    return Question(url=url, what=f"the certificate of this {product} chip's key", id="snp.leaf")


def firmware_questions(
    measurement: bytes, *, base: str = GOOGLE_BUCKET, root_url: str = GCE_TCB_ROOT.url
) -> tuple[Question, ...]:
    """Google's endorsement of the firmware with this launch digest, and its root's certificate.

    Args:
        measurement: The report's measurement.
        base: ``https://HOST[:PORT]`` of Google's storage, or of a copy of the caller's.
        root_url: Where the root's certificate is.
    """
    path = f"gce_tcb_integrity/ovmf_x64_csm/sevsnp/{measurement.hex()}.binarypb"
    return (
        Question(
            url=f"{base.rstrip('/')}/{path}",
            what="Google's endorsement of this firmware",
            id="snp.firmware",
        ),
        Question(url=root_url, what="Google's root certificate", id="google.root"),
    )


def _product(report: Report, known: Product | None) -> Product:
    if report.cpuid is None:
        if known is not None:
            return known
        raise EndorsementUnavailable(
            "a report of version 2 does not name its product, so what it needs is not known",
            id="snp.product",
            hint="Give the certificate with --endorsements PATH, or fetch it with: teeverify "
            "endorsements fetch SOURCE --product NAME.",
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
    if found.firmware or found.firmware_roots:
        return found  # no dates of their own: whoever verifies looks at those of the signer
    return found if spans and all(start <= at <= end for start, end in spans) else None

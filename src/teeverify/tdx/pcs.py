"""What to ask of Intel's certification service (PCS), or of a caching service (PCCS), for a quote.

Intel PCS API version 4. Only the platform's model and CA are taken from the quote, to choose what
to ask for; the host never is. Nothing here opens a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from teeverify.crypto.certificates import parse_pem_chain
from teeverify.endorsements import Answer
from teeverify.errors import ConfigurationError, EndorsementUnavailable, MalformedEvidence
from teeverify.tdx.documents import EVALUATION_NUMBERS, Tee
from teeverify.tdx.pck import SGX_EXTENSION, parse_pck_extension
from teeverify.tdx.pool import Pool
from teeverify.tdx.quote import TEE_TDX, Quote
from teeverify.tdx.recorded import read_answer

__all__ = ["INTEL_PCS", "Channel", "Platform", "Question", "Service", "current", "platform_of"]

Channel: TypeAlias = Literal["standard", "early"]
CaName: TypeAlias = Literal["platform", "processor"]
INTEL_PCS = "https://api.trustedservices.intel.com"
ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_CHAIN_IN_QUOTE = 5
_FMSPC_BYTES = 6
_MAX_NUMBER = 0xFFFF
_PROCESSOR = "Intel SGX PCK Processor CA"
_CHAIN_HEADERS = (
    "tcb-info-issuer-chain",
    "sgx-tcb-info-issuer-chain",
    "sgx-enclave-identity-issuer-chain",
    "sgx-pck-crl-issuer-chain",
    "tcb-evaluation-data-numbers-issuer-chain",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a quote says of its platform, before anything is verified.

    Attributes:
        tee: Which kind of TEE.
        fmspc: The CPU's model.
        ca: Which of Intel's CAs certified it.
    """

    tee: Tee
    fmspc: bytes
    ca: CaName


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask.

    Attributes:
        url: The whole URL.
        what: What is asked for, in words.
        id: The check that needs it.
        keep: The headers that belong to the answer.
    """

    url: str
    what: str
    id: str
    keep: tuple[str, ...] = _CHAIN_HEADERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A host that answers Intel's questions, and which of Intel's data sets to ask for.

    Attributes:
        base: ``https://HOST[:PORT]``; Intel's own service unless the caller names another.
        channel: ``early`` for data sets that Intel has published but not yet made the standard.
        evaluation_number: One data set by its number; not together with ``channel``.
    """

    base: str = INTEL_PCS
    channel: Channel | None = None
    evaluation_number: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that contradict each other (the service answers 400).

        Raises:
            ConfigurationError: Both options, or a wrong one.
        """
        number = self.evaluation_number
        known = self.channel in (None, "standard", "early") and (
            number is None or (type(number) is int and 0 <= number <= _MAX_NUMBER)
        )
        if not known or (self.channel is not None and number is not None):
            raise ConfigurationError(
                "Intel's data set is named by its channel, or by its number",
                id="usage.endorsements",
                got=f"{self.channel!r}, {number!r}"[:60],
                want="standard, early, or a number",
            )

    def questions(self, platform: Platform) -> tuple[Question, ...]:
        """All that a quote of this platform needs."""
        base = self.base.rstrip("/")
        tee = platform.tee.lower()
        option = ""
        if self.channel is not None:
            option = f"update={self.channel}"
        elif self.evaluation_number is not None:
            option = f"tcbEvaluationDataNumber={self.evaluation_number}"
        path = f"{base}/{tee}/certification/v4"
        fmspc = platform.fmspc.hex()
        return (
            self.root_crl_question(),
            Question(
                url=f"{base}/sgx/certification/v4/pckcrl?ca={platform.ca}&encoding=der",
                what=f"the revocation list of Intel's {platform.ca} CA",
                id="tdx.pck-crl",
            ),
            Question(
                url=f"{path}/tcb?fmspc={fmspc}" + (f"&{option}" if option else ""),
                what=f"Intel's TCB information for FMSPC {fmspc}",
                id="tdx.tcb-info",
            ),
            Question(
                url=f"{path}/qe/identity" + (f"?{option}" if option else ""),
                what="Intel's QE identity",
                id="tdx.qe-identity",
            ),
        )

    def numbers_question(self, tee: Tee) -> Question:
        """Which data sets there are; no option changes the answer."""
        base = self.base.rstrip("/")
        return Question(
            url=f"{base}/{tee.lower()}/certification/v4/tcbevaluationdatanumbers",
            what="Intel's list of data sets",
            id=EVALUATION_NUMBERS,
        )

    def root_crl_question(self) -> Question:
        """The root's revocation list, whose address is a constant of the service."""
        base = self.base.rstrip("/")
        url = ROOT_CRL_URL if base == INTEL_PCS else f"{base}/sgx/certification/v4/rootcacrl"
        return Question(url=url, what="Intel's root revocation list", id="tdx.root-crl", keep=())


def platform_of(quote: Quote) -> Platform:
    """Read which platform a quote names, to choose what to ask for; nothing is verified.

    Raises:
        EndorsementUnavailable: The quote does not carry its PCK chain.
        MalformedEvidence: The chain cannot be read.
    """
    check = "tdx.pck-chain"
    if quote.certification_type != _CHAIN_IN_QUOTE:
        raise EndorsementUnavailable(
            "the quote does not carry its PCK chain, so what it needs is not known",
            id=check,
            got=f"certification data of type {quote.certification_type}",
            hint="Give the endorsements, with the PCK chain, with --endorsements PATH.",
        )
    leaf = parse_pem_chain(
        quote.certification_data, id=check, what="tdx.pck_chain", trailing_nul=True
    )[0]
    value = leaf.extension(SGX_EXTENSION)
    if value is None:
        raise MalformedEvidence(
            "the certificate of the CPU does not describe it", id=check, field="tdx.pck_chain[0]"
        )
    processor = leaf.issuer_common_name == _PROCESSOR
    extension = parse_pck_extension(value, platform=not processor)
    return Platform(
        tee="TDX" if quote.tee_type == TEE_TDX else "SGX",
        fmspc=extension.fmspc,
        ca="processor" if processor else "platform",
    )


def current(answer: Answer, at: datetime) -> Pool | None:
    """What an answer holds, where all of it says that it is in force; nothing is verified.

    Raises:
        MalformedEvidence: The answer cannot be read.
    """
    pool = read_answer(answer)
    spans = [
        *((e.item.issue_date, e.item.next_update) for e in pool.tcb_infos),
        *((e.item.issue_date, e.item.next_update) for e in pool.qe_identities),
        *((e.item.issue_date, e.item.next_update) for e in pool.evaluation_numbers),
        *((e.item.this_update, e.item.next_update) for e in (*pool.root_crls, *pool.pck_crls)),
    ]
    return pool if spans and all(start <= at < end for start, end in spans) else None

"""Reading NVIDIA's answers from where people record them. Nothing is verified."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from teeverify.encoding.fields import JsonObject
from teeverify.endorsements import Answer, Exchange, list_files, read_exchanges, read_file
from teeverify.errors import EndorsementInvalid

__all__ = ["Recorded", "RimFile", "is_of_nvidia", "read_answers", "read_directory", "rim_of_answer"]

_NRAS = "nras.attestation.nvidia.com"
_RIM = "rim.attestation.nvidia.com"
_OCSP = "ocsp.ndis.nvidia.com"
_CRL = "crl.ndis.nvidia.com"
_ANSWERS = tuple(
    f"/{version}/attest/{kind}" for version in ("v3", "v4") for kind in ("gpu", "switch")
)
_JWKS = "/.well-known/jwks.json"
_RIM_PATH = "/v1/rim/"
_RIM_SUFFIXES = (".xml", ".swidtag")
_RIM_JSON = re.compile(r"NV_[A-Z0-9_.]+\.json")
_CRL_FILE = re.compile(r"l[0-9]-[a-z0-9-]+\.crl")
_ID = "rim.present"
_ASKED_RIM = re.compile(rf"{_RIM_PATH}([A-Z0-9_.]{{1,96}})")
_ASKED_OCSP = re.compile(r"/#ocsp-[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class RimFile:
    """One manifest as it was found.

    Attributes:
        id: NVIDIA's id under which it was found; nothing in the file repeats it.
        xml: The file.
    """

    id: str
    xml: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Everything of NVIDIA's that a directory holds."""

    nras_answers: tuple[bytes, ...] = ()
    jwks: tuple[bytes, ...] = ()
    rims: tuple[RimFile, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


def is_of_nvidia(answer: Answer) -> bool:
    """Whether an answer was kept for a question to one of NVIDIA's services."""
    return bool(_ASKED_RIM.fullmatch(answer.path) or _ASKED_OCSP.search(answer.url))


def read_answers(answers: Iterable[Answer]) -> Recorded:
    """Read kept answers: what they are follows from what was asked, whoever the host was.

    Raises:
        MalformedEvidence: A manifest's answer of another form.
        EndorsementInvalid: The RIM service answered about another manifest than was asked for.
    """
    rims: list[RimFile] = []
    ocsp: list[bytes] = []
    for answer in answers:
        name = _ASKED_RIM.fullmatch(answer.path)
        if name is not None:
            rims.append(RimFile(name[1], rim_of_answer(answer.body, name[1])))
        elif _ASKED_OCSP.search(answer.url):
            ocsp.append(answer.body)
    return Recorded(rims=tuple(rims), ocsp=tuple(ocsp))


def read_directory(path: str | Path) -> Recorded:
    """Read a capture: recorded exchanges by their URL, and plain files by their name.

    Args:
        path: The directory.

    Raises:
        ConfigurationError: It is no directory, or cannot be read.
        MalformedEvidence: The record of an exchange, or an answer of the RIM service, has another
            form, or a file is too large.
        EndorsementInvalid: The RIM service answered about another manifest than was asked for.
    """
    folder = Path(path)
    found = [*_exchanges(read_exchanges(folder)), *_plain(list_files(folder))]

    def all_of(kind: str) -> tuple[bytes, ...]:
        return tuple(body for one, _, body in found if one == kind)

    return Recorded(
        nras_answers=all_of("answer"),
        jwks=all_of("jwks"),
        rims=tuple(RimFile(name, body) for kind, name, body in found if kind == "rim"),
        ocsp=all_of("ocsp"),
        crls=all_of("crl"),
    )


def _exchanges(exchanges: tuple[Exchange, ...]) -> Iterator[tuple[str, str, bytes]]:
    """What NVIDIA's hosts, compared exactly, answered with success, by what was asked.

    OCSP and CRLs go over plain HTTP: their answers are signed, and the certificates say so.
    """
    for exchange in exchanges:
        if not exchange.ok or exchange.scheme not in ("https", "http"):
            continue
        if exchange.host == _OCSP:
            yield "ocsp", "", exchange.body()
        elif exchange.host == _CRL and exchange.path.endswith(".crl"):
            yield "crl", "", exchange.body()
        if exchange.scheme != "https":
            continue
        if exchange.host == _NRAS and exchange.path in _ANSWERS:
            yield "answer", "", exchange.body()
        elif exchange.host == _NRAS and exchange.path == _JWKS:
            yield "jwks", "", exchange.body()
        elif exchange.host == _RIM and exchange.path.startswith(_RIM_PATH):
            name = exchange.path.removeprefix(_RIM_PATH)
            if name != "ids":
                yield "rim", name, rim_of_answer(exchange.body(), name)


def rim_of_answer(body: bytes, wanted: str) -> bytes:
    """The manifest in an answer of NVIDIA's RIM service, which must be about the id asked for.

    Raises:
        MalformedEvidence: An answer of another form.
        EndorsementInvalid: An answer about another id.
    """
    answer = JsonObject.parse(body, path="rim", id=_ID)
    if answer.text("id") != wanted:
        raise EndorsementInvalid(
            "NVIDIA's RIM service answered about another manifest",
            id=_ID,
            got=ascii(answer.text("id"))[:120],
            want=wanted,
        )
    return answer.base64("rim")


def _plain(files: tuple[Path, ...]) -> Iterator[tuple[str, str, bytes]]:
    """Plain files, by what their names say."""
    for file in files:
        if file.name.endswith("eat.json"):
            yield "answer", "", read_file(file)
        elif file.name.endswith("jwks.json"):
            yield "jwks", "", read_file(file)
        elif file.suffix in _RIM_SUFFIXES:
            yield "rim", file.stem, read_file(file)
        elif _RIM_JSON.fullmatch(file.name):
            name = file.name.removesuffix(".json")
            yield "rim", name, rim_of_answer(read_file(file), name)
        elif file.suffix == ".ocsp":
            yield "ocsp", "", read_file(file)
        elif _CRL_FILE.fullmatch(file.name):
            yield "crl", "", read_file(file)

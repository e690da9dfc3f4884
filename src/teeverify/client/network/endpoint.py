"""Where an endpoint is, and which of its routes carry signed answers."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from teeverify.errors import ConfigurationError
from teeverify.providers import DIALECTS, Dialect, dialect_for
from teeverify.providers.routes import Ask

__all__ = ["DEFAULT_DIALECT", "Endpoint", "Route"]


DEFAULT_DIALECT = "teeverify/1"
"""What is spoken with a host that is in no table: our own server's, whatever it answers."""

Route: TypeAlias = Literal["signed", "sealed", "open"]
_ID = "usage.endpoint"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[0-9a-z._:-]{1,253}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
# What a server may resolve into another path.
_DEVIOUS = re.compile(r"\.\.|%2e", re.IGNORECASE)
_MODELS = "/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint, as its base URL names it.

    Attributes:
        scheme: ``https``; ``http`` only within this machine.
        host: Host in lower case, an IPv6 address without brackets.
        port: Port.
        path: Path below which OpenAI's routes lie, without a slash at its end.
        dialect: How it shows its evidence.
    """

    scheme: str
    host: str
    port: int
    path: str
    dialect: Dialect

    @classmethod
    def parse(cls, base_url: str, *, dialect: str | None = None) -> Endpoint:
        """Read a base URL, as the OpenAI SDK takes it.

        Args:
            base_url: For example ``https://enclave.example.com/v1``.
            dialect: The provider's dialect; else the host's, else :data:`DEFAULT_DIALECT`.

        Raises:
            ConfigurationError: No such URL, a plain one to another machine, or an unknown dialect.
        """
        scheme, host, port, path = _parts(base_url)
        if scheme == "http" and not _is_loopback(host):
            _refuse(
                "a plain http address would show your prompts to the network",
                host,
                "https, or http on this machine only",
            )
        chosen = dialect_for(host, dialect) or DIALECTS[DEFAULT_DIALECT]
        if not chosen.live:
            _refuse(
                "this dialect is read from recordings only in this version",
                chosen.id,
                ", ".join(d.id for d in DIALECTS.values() if d.live),
            )
        if not path.endswith(chosen.root):
            _refuse(
                "the base URL has another end than its dialect's routes",
                path or "no path",
                f"a path that ends in {chosen.root}",
            )
        return cls(scheme=scheme, host=host, port=port, path=path, dialect=chosen)

    @property
    def base_url(self) -> str:
        """The base URL in its one normal form."""
        return f"{self.scheme}://{self._authority}{self.path}"

    @property
    def trust_env(self) -> bool:
        """Whether proxies of the environment may be used: not within this machine."""
        return self.scheme == "https"

    @property
    def report_path(self) -> str:
        """Path of the report's route."""
        return self.path + self.dialect.report_path.removeprefix(self.dialect.root)

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def report_query(self, nonce: bytes, model: str | None) -> dict[str, str]:
        """What to ask of the report's route."""
        query = {"nonce": nonce.hex(), **self.dialect.asks}
        return query if model is None else {"model": model, **query}

    def report_url(self, query: dict[str, str]) -> str:
        """The URL of a report."""
        return f"{self.scheme}://{self._authority}{self.report_path}?{urlencode(query)}"

    def url_of(self, ask: Ask) -> str:
        """The URL of one of the dialect's own questions: at this endpoint, or at its other host."""
        authority = ask.host or self._authority
        scheme = "https" if ask.host else self.scheme
        query = f"?{urlencode(ask.query)}" if ask.query else ""
        return f"{scheme}://{authority}{ask.path}{query}"

    def signature_url(self, answer_id: str, model: str | None) -> str:
        """The URL of an answer's signature; the id is data, whatever characters it has."""
        route = self.dialect.signature_path.format(id=quote(answer_id, safe=""))
        asked = self.dialect.asks_signature.items()
        query = {name: answer_id if value == "{id}" else value for name, value in asked}
        if model is not None:
            query = {"model": model, **query}
        return f"{self.base_url}{route}{'?' if query else ''}{urlencode(query)}"

    def relative(self, url: str) -> str:
        """The path of a request below the base URL."""
        return urlsplit(url).path.removeprefix(self.path)

    def route(self, method: str, url: str, *, sealed: tuple[str, ...] = ()) -> Route:
        """What a request is to this endpoint.

        Args:
            method: HTTP method.
            url: The whole URL.
            sealed: Routes whose requests are encrypted though nobody signs their answers.

        Returns:
            ``signed`` where the answer must carry a signature, ``sealed`` where it must be
            encrypted, ``open`` where there is nothing to sign (the list of models).

        Raises:
            ConfigurationError: Another endpoint, or a route whose answers nobody signs: nothing is
                sent there.
        """
        parts = urlsplit(url)
        here = (self.scheme, self.host, self.port)
        there = (parts.scheme, (parts.hostname or ""), parts.port or _PORTS.get(parts.scheme, 0))
        if there != here or not parts.path.startswith(f"{self.path}/"):
            _refuse(
                "the request is for another place than the one that is attested",
                f"{there[0]}://{there[1]}:{there[2]}{parts.path}"[:120],
                self.base_url,
            )
        relative = parts.path.removeprefix(self.path)
        if method == "POST" and relative in self.dialect.signed_routes:
            return "signed"
        if method == "POST" and relative in sealed:
            return "sealed"
        models = relative == _MODELS or relative.startswith(f"{_MODELS}/")
        if method == "GET" and models and not _DEVIOUS.search(relative):
            return "open"
        raise ConfigurationError(
            "answers of this route carry no signature in this dialect, so nothing was sent",
            id="usage.route",
            got=f"{method} {relative}"[:120],
            want=f"POST {' or '.join(self.dialect.signed_routes)}, or GET {_MODELS}",
        )


def _parts(base_url: str) -> tuple[str, str, int, str]:
    if not isinstance(base_url, str):
        _refuse("the base URL is not text", type(base_url).__name__, "https://host/v1")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        _refuse("the base URL is not a URL", f"{len(base_url)} characters", "https://host/v1")
    if parts.username is not None or parts.password is not None:
        _refuse("the base URL holds a user name or password", host, "api_key= for credentials")
    if host != _usual(host):
        _refuse(
            "the base URL spells its host in another way than usual, under which nothing would be "
            "remembered of it",
            repr(host)[:80],
            _usual(host)[:80],
        )
    path = parts.path.rstrip("/")
    if (
        parts.scheme not in _PORTS
        or not _HOST.fullmatch(host)
        or not _PATH.fullmatch(path)
        or _DEVIOUS.search(path)
        or parts.query
        or parts.fragment
    ):
        _refuse(
            "the base URL is not one of an endpoint",
            repr(host)[:80] if host else "no host",
            "https://host/v1, a host in ASCII, neither query nor fragment",
        )
    return parts.scheme, host, port or _PORTS[parts.scheme], path


def _usual(host: str) -> str:
    """The one spelling of a host: without the root's dot, and an address in its shortest form."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # From Python 3.13 on an IPv4 address mapped into IPv6 counts too; here it never does.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def _refuse(message: str, got: str, want: str) -> NoReturn:
    raise ConfigurationError(message, id=_ID, got=got, want=want)

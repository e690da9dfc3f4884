"""Fetch with ``requests``, which every installation has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from teeverify.client.network.fetch import Collector, Get, Got, out_of_time, unreachable
from teeverify.client.network.tls import fingerprint
from teeverify.endorsements.deadline import Deadline, no_credentials, watched_adapter

__all__ = ["RequestsFetch"]

_CHUNK = 64 * 1024


class RequestsFetch:
    """Fetches with a connection of its own for every request.

    Args:
        trust_env: Whether proxies and CA bundles of the environment are used. Never for
            connections within this machine, which no proxy may see.
    """

    def __init__(self, *, trust_env: bool = True) -> None:
        self._trust_env = trust_env

    def __call__(self, get: Get) -> Got:
        """Fetch.

        Raises:
            EndpointUnavailable: No connection, no answer in time, a redirect.
            MalformedEvidence: The answer is larger than allowed.
        """
        import requests  # noqa: PLC0415 -- heavy, and not every verification fetches
        import urllib3  # noqa: PLC0415

        with Deadline(get.timeout) as deadline, requests.Session() as session:
            session.trust_env = self._trust_env
            adapter = watched_adapter(deadline)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            try:
                with session.get(
                    get.url,
                    headers=get.headers,
                    auth=no_credentials,
                    stream=True,
                    allow_redirects=False,
                    timeout=get.timeout,
                ) as response:
                    headers = cast("Mapping[str, str]", response.headers)
                    peer = None if deadline.peer is None else fingerprint(deadline.peer)
                    collector = Collector(get, response.status_code, headers, peer=peer)
                    chunks = response.raw.stream(_CHUNK, decode_content=False)
                    return collector.all(chunks, deadline)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.expired or isinstance(error, requests.Timeout):
                    raise out_of_time(get) from None
                raise unreachable(get, error) from None

"""What an endpoint says of itself, for the record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from teeverify.bench.load import Target
from teeverify.errors import EndpointUnavailable, Unavailable

__all__ = ["describe_target", "naming"]

_SECONDS = 5.0


def describe_target(target: Target) -> dict[str, object]:
    """The engine's version and its longest context, where the endpoint tells.

    Raises:
        EndpointUnavailable: Nothing answers at its address.
    """
    root = urlunsplit(urlsplit(target.url)._replace(path="/version"))
    models = _get(f"{target.url.rstrip('/')}/models", target, required=True)
    version = _get(root, target, required=False)
    listed = models.get("data")
    first = listed[0] if isinstance(listed, list) and listed else {}
    return {
        "engine_version": version.get("version"),
        "longest_context": first.get("max_model_len") if isinstance(first, dict) else None,
    }


@contextlib.contextmanager
def naming(target: Target) -> Iterator[None]:
    """Name the target and its model in what is missing: most often that name is wrong."""
    try:
        yield
    except Unavailable as error:
        error.message = f"{target.name}: {error.message} for model {target.model!r}"
        raise


def _get(url: str, target: Target, *, required: bool) -> dict[str, object]:
    import requests  # noqa: PLC0415 -- slow to import

    try:
        answer = requests.get(url, headers=target.headers, timeout=_SECONDS, allow_redirects=False)
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        if required and not isinstance(error, ValueError):
            raise EndpointUnavailable(
                f"{target.name} does not answer", id="endpoint.unreachable", got=url
            ) from None
        return {}
    return found if isinstance(found, dict) else {}

"""dstack's guest agent: quotes with their event log, over HTTP on a unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from teeverify.enclave.tee.machine import Quote
from teeverify.encoding.strict import hex_bytes, json_value
from teeverify.errors import EndpointUnavailable, TeeVerifyError

__all__ = ["SOCKETS", "DstackAgent"]

SOCKETS = tuple(
    Path(path)
    for path in (
        "/var/run/dstack.sock",
        "/run/dstack.sock",
        "/var/run/dstack/dstack.sock",
        "/run/dstack/dstack.sock",
    )
)
_SECONDS = 60.0
_LARGEST = 16 * 2**20
_OK = 200


class DstackAgent:
    """The guest agent of a dstack VM.

    Args:
        path: Its socket.

    Raises:
        EndpointUnavailable: It does not answer.
    """

    platform = "tdx"

    def __init__(self, path: Path = SOCKETS[0]) -> None:
        self._path = path
        self._info = self._read_info()

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.tee.machine.CpuSource`."""
        answer = self._call("GetQuote", {"report_data": report_data.hex()})
        try:
            quote = hex_bytes(answer.get("quote"), field="dstack.quote", id="endpoint.devices")
        except TeeVerifyError as error:
            raise self._odd(error.message) from None
        if not quote:
            # On SEV-SNP the agent has another form of evidence, which no dialect here carries.
            raise self._odd("an empty quote")
        if answer.get("report_data") not in {None, "", report_data.hex()}:
            raise self._odd("a quote over other data")
        return Quote(
            quote=quote,
            event_log=self._log(answer.get("event_log")),
            info=self._info,
            vm_config=self._configuration(answer),
        )

    def _read_info(self) -> Mapping[str, object]:
        info = self._call("Info", {})
        # The agent writes this member as JSON inside JSON; reports carry it as an object.
        if isinstance(info.get("tcb_info"), str):
            info["tcb_info"] = self._json(info["tcb_info"].encode())
        return info

    def _configuration(self, answer: Mapping[str, object]) -> str:
        found = answer.get("vm_config") or self._info.get("vm_config") or "{}"
        if not isinstance(found, str):
            raise self._odd("a configuration of another form")
        return found

    def _log(self, text: object) -> Sequence[Mapping[str, object]]:
        log = self._json(text.encode()) if isinstance(text, str) and text else text or []
        if not isinstance(log, list) or not all(isinstance(event, dict) for event in log):
            raise self._odd("an event log of another form")
        return log

    def _call(self, method: str, question: Mapping[str, object]) -> dict[str, Any]:
        connection = _UnixConnection(self._path)
        try:
            connection.request(
                "POST", f"/{method}", json.dumps(question), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            body = response.read(_LARGEST + 1)
        except (OSError, http.client.HTTPException) as error:
            raise EndpointUnavailable(
                "dstack's guest agent does not answer",
                id="endpoint.devices",
                got=f"{self._path}: {getattr(error, 'strerror', None) or type(error).__name__}",
                hint="Mount the agent's socket into the container.",
            ) from None
        finally:
            connection.close()
        if response.status != _OK or len(body) > _LARGEST:
            raise self._odd(f"status {response.status} to {method}")
        answer = self._json(body)
        if not isinstance(answer, dict):
            raise self._odd(f"no object to {method}")
        return answer

    def _json(self, raw: bytes) -> Any:  # noqa: ANN401 -- JSON is what it is
        try:
            return json_value(raw, field="dstack", id="endpoint.devices")
        except TeeVerifyError as error:
            raise self._odd(error.message) from None

    def _odd(self, got: str) -> EndpointUnavailable:
        return EndpointUnavailable(
            "dstack's guest agent gives no quote that can be used",
            id="endpoint.devices",
            got=got[:120],
        )


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

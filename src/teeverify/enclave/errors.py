"""Errors as OpenAI-compatible clients expect them: a status, and one JSON object."""

from __future__ import annotations

import json

__all__ = ["HttpError"]

_TYPES = {
    400: "invalid_request_error",
    404: "not_found",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What is wrong, as a sentence; it never repeats a prompt.
        kind: Value of ``type``; by default what belongs to the status.
        code: Value of ``code``.
        param: Which member of the request is wrong.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or _TYPES[status]
        self.code = code
        self.param = param
        self.headers = headers

    @classmethod
    def bad_request(cls, message: str, *, param: str | None = None) -> HttpError:
        """400: the request cannot be understood or served as it is."""
        return cls(400, message, param=param)

    @classmethod
    def too_large(cls, limit: int) -> HttpError:
        """413: the body is larger than what is read."""
        return cls(413, f"the request is larger than {limit} bytes", code="request_too_large")

    @classmethod
    def busy(cls, message: str) -> HttpError:
        """429: the queue is full; come again in a second."""
        return cls(429, message, code="busy", headers=((b"retry-after", b"1"),))

    @classmethod
    def unknown_model(cls) -> HttpError:
        """404: another model is served here."""
        return cls(
            404,
            "this model is not served here; GET /v1/models names the one that is",
            kind="invalid_request_error",
            code="model_not_found",
            param="model",
        )

    def body(self) -> bytes:
        """The JSON object."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}, separators=(",", ":")).encode("ascii")

"""Errors as OpenAI-compatible clients expect them: a status, and one JSON object."""

from __future__ import annotations

import json

__all__ = ["HttpError"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
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
    def busy(cls, message: str, *, seconds: int = 1) -> HttpError:
        """429: too much is asked; come again in some seconds."""
        return cls(429, message, code="busy", headers=((b"retry-after", b"%d" % seconds),))

    @classmethod
    def engine_failed(cls, message: str) -> HttpError:
        """502: the engine gave nothing that can be passed on as an answer."""
        return cls(502, message, code="engine_failed")

    @classmethod
    def store_failed(cls, message: str) -> HttpError:
        """503: a signature could not be kept, so no answer is given."""
        return cls(503, message, code="signature_store")

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

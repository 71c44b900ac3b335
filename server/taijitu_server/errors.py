"""Every error that a client gets: a status and {"error": text}, nothing else."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from taijitu_runtime.errors import PictureError, PictureTooLargeError

log = logging.getLogger("taijitu.server")


def too_large(limit_bytes: int) -> HTTPException:
    """413 for a body of more than `limit_bytes`."""
    return HTTPException(413, f"the body is larger than {limit_bytes} bytes; send a smaller picture")


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The one JSON form of all errors."""
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def install_handlers(app: FastAPI) -> None:
    """Give every exception its status: ours and HTTP's keep their text, anything else is 500 'internal error'."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return error_response(error.status_code, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return error_response(400, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    @app.exception_handler(PictureError)
    async def picture(request: Request, error: PictureError) -> JSONResponse:
        return error_response(413 if isinstance(error, PictureTooLargeError) else 422, str(error))

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> JSONResponse:
        log.error("internal error: %s %s", request.method, request.url.path)
        return error_response(500, "internal error")

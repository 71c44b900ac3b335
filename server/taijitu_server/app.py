"""The application: routes around a classifier that is passed in. No state at module level."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.exceptions import HTTPException

from taijitu_runtime import Classifier, __version__
from taijitu_server.body import BodyLimit, read_picture
from taijitu_server.errors import install_handlers
from taijitu_server.settings import Settings

BLANK = b"P6 1 1 255\n\0\0\0"  # a picture file of one black pixel: decoders and network load before the first request
Top = Annotated[int, Query(ge=1, description="how many answers, best first; at most the number of labels")]


def create_app(classifier: Classifier, settings: Settings | None = None) -> FastAPI:
    """An ASGI application that answers POST /classify with `classifier`, which the caller opens and closes.

    A first blank picture goes through the network here: ArtefactError where it has no answer.
    """
    settings = settings or Settings()
    classifier.predict(BLANK)
    threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="classify")
    state = {"ready": False, "pending": 0}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state["ready"] = True
        yield
        state["ready"] = False
        threads.shutdown()

    app = FastAPI(title="taijitu", version=__version__, lifespan=lifespan)
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    install_handlers(app)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """200 as long as the process answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """200 from the application's start to its shutdown, else 503."""
        if not state["ready"]:
            raise HTTPException(503, "not ready")
        return {"status": "ready", "model": classifier.card.architecture.name}

    @app.post("/classify")
    async def classify(request: Request, top: Top = 5) -> dict[str, Any]:
        """Classify one picture: its bytes as the body, or a multipart form with a field `file`."""
        if state["pending"] >= settings.max_pending:
            headers = {"Retry-After": str(settings.retry_after_s)}
            raise HTTPException(503, f"{settings.max_pending} requests are waiting already; try again", headers)
        state["pending"] += 1
        try:
            picture = await read_picture(request, settings.body_timeout_s)
            began = time.perf_counter()
            best = min(top, len(classifier.labels))
            loop = asyncio.get_running_loop()
            prediction = await loop.run_in_executor(threads, lambda: classifier.predict(picture, top=best))
        finally:
            state["pending"] -= 1
        return {
            "model": classifier.card.architecture.name,
            "answers": [vars(answer) for answer in prediction.answers],
            "latency_ms": round(1e3 * (time.perf_counter() - began), 3),
        }

    return app

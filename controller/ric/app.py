"""The northbound API: one FastAPI application over the RIC's parts.

Everything under /api/v1 and /A1-P/v2 needs a bearer token, except health.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from controller.ric import (
    routes_budget,
    routes_control,
    routes_functions,
    routes_history,
    routes_models,
    routes_network,
    routes_policies,
    routes_sdl,
    routes_slices,
    routes_twins,
    routes_whatif,
)
from controller.ric.documents import ErrorDocument
from controller.ric.gate import TheRic
from controller.ric.metrics import metrics_text
from controller.ric.responses import BodyLimit, add_error_handlers, json_response
from controller.ric.state import Ric

PREFIX = "/api/v1"
A1_PREFIX = "/A1-P/v2"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument, "description": meaning}
    for status, meaning in (
        (401, "No valid token"),
        (403, "Outside the caller's scopes"),
        (404, "Unknown target"),
        (409, "In conflict with what is there"),
        (422, "Malformed"),
        (429, "Too many decisions"),
        (503, "Another process of the testbed does not answer"),
    )
}


def health_document(ric: Ric) -> dict[str, Any]:
    alarms = ric.alarms()
    state = "ok" if not alarms else "degraded"
    return {
        "status": state if ric.progress.ready else "starting",
        "ready": ric.progress.ready,
        "alarms": alarms,
        **({"replayed": True} if ric.pipeline.replayed else {}),
    }


def create_app(ric: Ric) -> FastAPI:
    app = FastAPI(
        title="Holon northbound API",
        version="1",
        description="Twins, decisions and xApps of a running testbed.",
        responses=ERRORS,
        redoc_url=None,
    )
    app.state.ric = ric
    app.add_middleware(BodyLimit)
    add_error_handlers(app)
    for router in (
        routes_control.decisions,  # the first: routes are tried in order, and the loop waits here
        routes_network.router,
        routes_slices.router,
        routes_functions.router,
        routes_history.router,
        routes_twins.router,
        routes_models.router,
        routes_budget.router,
        routes_control.xapps,
        routes_whatif.router,
        routes_sdl.router,
        routes_policies.replies,
        routes_control.tokens,
    ):
        app.include_router(router, prefix=PREFIX)
    app.include_router(routes_policies.router, prefix=A1_PREFIX)
    add_open_routes(app)
    return app


def add_open_routes(app: FastAPI) -> None:
    """Without a token: health (also at O-RAN's paths) and metrics."""

    @app.get(f"{PREFIX}/health", tags=["health"])
    async def health(ric: TheRic) -> Response:
        return json_response(health_document(ric))

    @app.get("/ric/v1/health/alive", tags=["health"])
    async def alive() -> Response:
        return json_response({"status": "ok"})

    @app.get("/ric/v1/health/ready", tags=["health"])
    async def ready(ric: TheRic) -> Response:
        return json_response(health_document(ric), 200 if ric.progress.ready else 503)

    @app.get("/metrics", tags=["health"])
    async def metrics(ric: TheRic) -> Response:
        return Response(metrics_text(ric), media_type="text/plain; version=0.0.4")

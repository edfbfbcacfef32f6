"""``/admin/recipes``: how one can train, and what a training would take."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get, post

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.console.recipes import known_bases, recipe_cards
from server.openapi.operations import taking
from server.openapi.operations_of_admin import PLAN_ERRORS
from server.routes.answering import body_of, ignored_header, unless_gone
from server.routes.provided import ProvidedSettings, ProvidedTrainings
from server.wire.decode import decode_body
from server.wire.recipes import RecipeList, TrainingPlan
from server.wire.runs import TrainingRequest


@get(
    "/admin/recipes",
    opt=ADMIN,
    operation_id="listRecipes",
    summary="List the recipes",
    tags=["training"],
    response_description="The recipes, and the bases that are here.",
)
async def list_recipes(settings: ProvidedSettings) -> RecipeList:
    """The bundled recipes with all fields, their bounds and their choices."""
    return RecipeList(data=list(recipe_cards()), bases=known_bases(settings.home, settings.base))


@post(
    "/admin/recipes/plan",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="planRun",
    operation_class=taking(TrainingRequest),
    summary="Plan a training",
    tags=["training"],
    response_description="What it would do and take.",
    responses=PLAN_ERRORS,
)
async def plan_run(
    request: Request[Any, Any, Any], trainings: ProvidedTrainings
) -> Response[TrainingPlan]:
    """Check everything, count the steps, and estimate memory, disk and time; nothing is trained.

    It is what `lccc-admin train --dry-run` does. Dialogues become tokens for it, which a training
    with the same settings will find.
    """
    decoded = decode_body(await body_of(request), TrainingRequest)
    found = await unless_gone(trainings.plan(decoded.request), request.receive)
    plan = msgspec.convert(found, TrainingPlan)
    return Response(plan, headers=ignored_header(decoded.ignored))

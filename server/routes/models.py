"""``GET /v1/models``: what is served."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.params import FromPath

from server.access.scopes import INFERENCE
from server.engine.types import ModelCard
from server.openapi.operations import LOOKUP_ERRORS
from server.routes.provided import ProvidedEngine
from server.wire.models import Model, ModelList, Sampling


@get(
    "/models",
    opt=INFERENCE,
    operation_id="listModels",
    summary="List what is served",
    tags=["models"],
    response_description="The base, then the adapters.",
)
async def list_models(engine: ProvidedEngine) -> ModelList:
    """The base and every registered adapter, also those that cannot be served just now."""
    return ModelList(data=[_model(card) for card in engine.models()])


@get(
    "/models/{model_id:path}",
    opt=INFERENCE,
    operation_id="retrieveModel",
    summary="One served model",
    tags=["models"],
    response_description="The model.",
    responses=LOOKUP_ERRORS,
)
async def retrieve_model(
    model_id: FromPath[str],
    engine: ProvidedEngine,
) -> Model:
    """The base or an adapter by name; names may contain slashes."""
    return _model(engine.model(model_id.removeprefix("/")))


def _model(card: ModelCard) -> Model:
    return Model(
        id=card.name,
        created=card.created,
        root=f"sha256:{card.digest}" if card.parent is not None and card.digest else card.name,
        parent=card.parent,
        max_model_len=card.context_length,
        digest=card.digest,
        rank=card.rank,
        state=card.state,
        reason=card.reason,
        sampling=msgspec.convert(card.sampling, Sampling, from_attributes=True),
        system_prompt=card.system_prompt,
    )

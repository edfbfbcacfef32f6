"""What the admin's handlers tell the OpenAPI document: their bodies and their refusals."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from server.openapi.operations import error
from server.wire.adapters import (
    AdapterList,
    EvaluationRequest,
    MergeRequest,
    RegisteredAdapter,
    RegisterRequest,
    RenameRequest,
)
from server.wire.datasets import (
    DatasetCard,
    DatasetList,
    DatasetPreview,
    PrepareRequest,
    UploadCard,
    UploadRequest,
)
from server.wire.jobs import JobCard, JobList
from server.wire.logs import LogLines
from server.wire.recipes import RecipeList, TrainingPlan
from server.wire.runs import LogText, RunCard, RunDetail, RunList, RunMetrics, TrainingRequest
from server.wire.sweeps import SweepCard, SweepDetail, SweepList, SweepPlan, SweepRequest

ADMIN_TYPES = (
    TrainingRequest,
    RunCard,
    RunList,
    RunDetail,
    RunMetrics,
    LogText,
    RecipeList,
    TrainingPlan,
    JobCard,
    JobList,
    LogLines,
    UploadRequest,
    UploadCard,
    PrepareRequest,
    DatasetCard,
    DatasetList,
    DatasetPreview,
    RegisterRequest,
    RenameRequest,
    RegisteredAdapter,
    MergeRequest,
    EvaluationRequest,
    AdapterList,
    SweepRequest,
    SweepCard,
    SweepList,
    SweepDetail,
    SweepPlan,
)

NO_RUN = {404: error("There is no such run.")}
NO_JOB = {404: error("There is no such job.")}
NO_ADAPTER = {
    404: error("There is no such adapter."),
    503: error("The registry cannot be read, or the keys cannot be."),
}
CANCEL_ERRORS = {404: NO_JOB[404], 409: error("It has ended already.")}
UNREADABLE = {503: NO_ADAPTER[503]}
STOP_ERRORS = {404: NO_RUN[404], 409: error("The run is not running.")}
RESUME_ERRORS = {404: NO_RUN[404], 409: error("The run is running, or is complete.")}
PLAN_ERRORS = {
    400: error("The request is malformed, or `train` refuses it, in its own words."),
    503: error("Planning takes too long, or the keys cannot be read."),
}
NO_SWEEP = {
    404: error("There is no such sweep."),
    503: error("The sweep's record is damaged, or the keys cannot be read."),
}
SWEEP_PLAN_ERRORS = {
    400: error("The request is malformed, or `sweep` refuses it, in its own words."),
    503: PLAN_ERRORS[503],
}
SWEEP_START_ERRORS = {
    400: SWEEP_PLAN_ERRORS[400],
    409: error("A sweep of that name is running."),
}
SWEEP_STOP_ERRORS = NO_SWEEP | {409: error("The sweep is not running.")}
SWEEP_RESUME_ERRORS = NO_SWEEP | {409: error("The sweep is running, or needs its file.")}
DATASET_ERRORS = {
    404: error("There is no such dataset."),
    503: error("The dataset is damaged, or the keys cannot be read."),
}
PREVIEW_ERRORS = DATASET_ERRORS | {
    400: error("The request is malformed, or `data preview` refuses it, in its own words."),
}
UPLOAD_ERRORS = {
    413: error("The body is too large, or the file is for the server's disk."),
    503: error("The disk cannot be written to, or the keys cannot be read."),
}
PIECE_ERRORS = {
    404: error("There is no such upload, or no longer."),
    409: error("Other bytes come next; the message says which."),
    503: UPLOAD_ERRORS[503],
}
PREPARE_ERRORS = {
    404: PIECE_ERRORS[404],
    409: error("The file is not here as a whole, or there is a dataset of that name."),
}
REGISTER_ERRORS = {
    400: error("The request is malformed, or the adapter is refused, with every reason."),
    404: error("There is no such run, or it has no adapter."),
    503: NO_ADAPTER[503],
}
RENAME_ERRORS = {400: error("The name is taken or cannot be used."), **NO_ADAPTER}
MERGE_ERRORS = {
    400: error("The request is malformed, or the name cannot be used."),
    **NO_ADAPTER,
    409: error("There is a base of that name."),
}
EVALUATE_ERRORS = {400: error("The request is malformed, or names no dataset."), **NO_ADAPTER}


@dataclass
class PieceOperation(Operation):
    """``PATCH /admin/uploads/{upload_id}``: bytes as they are."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True, content={"application/octet-stream": _bytes()}
        )


@dataclass
class DownloadOperation(Operation):
    """``GET /admin/adapters/{name}/download``: a file as it is."""

    def __post_init__(self) -> None:
        success = (self.responses or {})["200"]
        assert isinstance(success, OpenAPIResponse)
        success.content = {"application/zip": _bytes()}


def _bytes() -> OpenAPIMediaType:
    return OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, content_encoding="binary"))

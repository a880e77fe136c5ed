"""The requests, replies and errors between the teacher service and its clients."""

from pad_wire.errors import RETRYABLE, STATUS, ErrorCode, ErrorDetail, ErrorReply
from pad_wire.scoring import (
    Form,
    LikelihoodReply,
    LikelihoodRequest,
    Orders,
    ScoreReply,
    ScoreRequest,
    SelectionReply,
    SelectionRequest,
    Usage,
)
from pad_wire.service import Health, JobUsage, KeyUsage, Limits, ModelCard, ModelList, UsageReply
from pad_wire.sets import (
    Message,
    Prompt,
    Response,
    ResponseSet,
    SampledSet,
    ScoredResponse,
    ScoredSet,
    SentResponse,
    TeacherId,
)

__all__ = [
    "RETRYABLE",
    "STATUS",
    "ErrorCode",
    "ErrorDetail",
    "ErrorReply",
    "Form",
    "Health",
    "JobUsage",
    "KeyUsage",
    "LikelihoodReply",
    "LikelihoodRequest",
    "Limits",
    "Message",
    "ModelCard",
    "ModelList",
    "Orders",
    "Prompt",
    "Response",
    "ResponseSet",
    "SampledSet",
    "ScoreReply",
    "ScoreRequest",
    "ScoredResponse",
    "ScoredSet",
    "SelectionReply",
    "SelectionRequest",
    "SentResponse",
    "TeacherId",
    "Usage",
    "UsageReply",
]

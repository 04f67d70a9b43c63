# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from .deep import Activation, DeepLayer, DeepStatistics, FeatureMoments, FeatureShift, FeatureSize, Spread, Update
from .inference import Candidate, Embedded, EmbedResponse, LayerDeviation, Prediction, PredictResponse
from .layers import Distribution, Distributions, LayerDrift, LayerState, LayerStatistics, Summary
from .norm_stats import (
    BaselineSource,
    InputState,
    InputStatistics,
    LayerResponse,
    NormStatsResponse,
    OutputState,
    OutputStatistics,
    Overhead,
    Verdict,
    Window,
)
from .repository import IndexEntry, ModelResponse, Plan, PlanInUse, Ready, Unobserved
from .traffic import Now, Quantiles, Recent, ServedModel, Total, TrafficResponse

__all__ = [
    "Activation",
    "BaselineSource",
    "Candidate",
    "DeepLayer",
    "DeepStatistics",
    "Distribution",
    "Distributions",
    "EmbedResponse",
    "Embedded",
    "FeatureMoments",
    "FeatureShift",
    "FeatureSize",
    "IndexEntry",
    "InputState",
    "InputStatistics",
    "LayerDeviation",
    "LayerDrift",
    "LayerResponse",
    "LayerState",
    "LayerStatistics",
    "ModelResponse",
    "NormStatsResponse",
    "Now",
    "OutputState",
    "OutputStatistics",
    "Overhead",
    "Plan",
    "PlanInUse",
    "PredictResponse",
    "Prediction",
    "Quantiles",
    "Ready",
    "Recent",
    "ServedModel",
    "Spread",
    "Summary",
    "Total",
    "TrafficResponse",
    "Unobserved",
    "Update",
    "Verdict",
    "Window",
]

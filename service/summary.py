"""One live summary for the page: the verdict, and every layer in a line."""

import json
from typing import Any, NamedTuple

from pydantic_core import to_json

from runtime.drift import MIN_REQUESTS
from service.collector import Asked, Statistics
from service.feed import Feed
from service.ledger import Owner, Report
from service.models import Models
from service.traffic_report import recent

HEAD = ("model", "version", "requests", "since", "baseline", "window", "verdict", "overhead_ratio")


class Followed(NamedTuple):
    """What a page follows; the default model, and the highest version, where it names none."""

    window: str
    model: str | None = None
    version: str | None = None


def summary(collector: Statistics, report: Report, window: str) -> bytes:
    """JSON: what every answer about statistics begins with, each layer's drift, and how traffic goes now."""
    answer = json.loads(collector.all_layers(Asked(window)))
    ends = {name: answer[name] for name in ("input", "output") if answer[name] is not None}
    return to_json(
        {name: answer[name] for name in HEAD}
        | {"needed": MIN_REQUESTS, "asked": window, "traffic": traffic_now(report)}
        | {name: line(layer) for name, layer in ends.items()}
        | {"layers": [line(layer) | {"not_finite": layer["live"]["not_finite"]} for layer in answer["layers"]]}
    )


def line(layer: dict[str, Any]) -> dict[str, Any]:
    return {"name": layer["name"]} | {
        name: layer["drift"].get(name) for name in ("state", "score", "threshold", "effect")
    }


def traffic_now(report: Report) -> dict[str, Any]:
    """What GET /traffic says of this moment and of the last ten seconds."""
    lately = recent(report.recent[10])
    return {"workers": report.workers, "now": report.now._asdict(), "last_10s": lately.model_dump()}


def make_feed(models: Models, owner: Owner) -> Feed[Followed]:
    """Live summaries of the models' traffic.

    Args:
        owner: who knows what all processes answer.
    """

    def compute(followed: Followed) -> bytes:
        engine = models.find(followed.model, followed.version)
        return summary(engine.collector, owner.traffic(), followed.window)

    return Feed(compute)

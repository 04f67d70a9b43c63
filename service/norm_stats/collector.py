"""The collector: records what the norms saw in every worker, and answers the statistics endpoints."""

from collections.abc import Callable

from pydantic_core import to_json

from runtime.artifact import Artifact
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.statistics.deep import DeepState
from runtime.statistics.fleet import FleetRecorder
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument
from runtime.store.kept import Kept, kept_version
from runtime.store.shares import Published
from runtime.store.sqlite import StateStore
from service.norm_stats.baselines import Baselines, Taken
from service.norm_stats.fleet import Fleet
from service.norm_stats.history import history
from service.norm_stats.interface import (
    AUTO,
    PRESENT,
    PRESENT_REQUESTS,
    VERSION,
    WINDOW,
    AllLayers,
    Comparison,
    Delivery,
    DropBaseline,
    History,
    MergeableState,
    OneLayer,
    Query,
    Shared,
    Snapshot,
    Status,
    TakeBaseline,
    WindowQuery,
    parse_window,
)
from service.norm_stats.publication import untold
from service.norm_stats.report import Observed, all_layers, baseline_source, compare, one_layer, snapshot
from service.norm_stats.verdict import alert_of, no_reference
from service.schemas.base import Body
from service.schemas.norm_stats import Overhead
from service.schemas.windows import BaselineResponse, CompareResponse
from service.settings import Settings

BASELINE_REQUESTS = 100  # a baseline of fewer would be mostly noise
BASELINE_DIFFERENT = 20  # and of fewer different ones


def as_json(body: Body) -> bytes:
    return body.model_dump_json(exclude_unset=True).encode()


class Collector:
    """Records what the norms of one artifact see, judges it, and keeps it over restarts.

    Args:
        workers: processes that hand in; their time is what overheads are shares of.

    Raises:
        ArtifactError: the artifact's baseline cannot be used.
    """

    def __init__(self, artifact: Artifact, settings: Settings, workers: int = 1) -> None:
        self.manifest, self.workers = artifact.manifest, workers
        self.deep_budget = settings.deep_budget
        self.baselines = Baselines(read_baseline(artifact), self.manifest)
        summarize, limits = self.baseline.summarize, self.baseline.limits
        self.recorder = NormRecorder(self.manifest.layers, summarize, limits=limits)
        self.fleet = Fleet(self.recorder, settings)
        self.siblings: Callable[[str, str], list[Collector]] = lambda _model, _version: []  # in this process
        self.store = StateStore(settings.state, self.manifest, self._resume)
        if (kept := self.store.load()) is not None:
            self._resume(kept)
            self.keep()  # at once: the next start has to know that these counts are here

    @property
    def baseline(self) -> Baseline:
        return self.baselines.in_force

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        self.store.start(self._to_keep)

    def keep(self) -> None:
        """Keeps what changed, for an owner that does so every second itself, in the place of `start`."""
        self.store.save_changed(self._to_keep)

    def close(self) -> None:
        """Saves the statistics a last time, if `start` was called, and closes their file."""
        self.store.stop()

    def observe(self, batch: EncodedBatch, seconds: float) -> None:
        """Counts a batch that took `seconds` to run."""
        self.recorder.observe(batch, seconds)

    def observe_deep(self, state: DeepState, seconds: float) -> None:
        """Counts a deep look that took `seconds`."""
        self.recorder.observe_deep(state, seconds)

    def report(self, query: Query) -> bytes:
        """Answers a query, as JSON."""
        match query:
            case AllLayers(window):
                return as_json(all_layers(self, self._observed(window)))
            case OneLayer(window, name):
                return as_json(one_layer(self, name, self._observed(window)))
            case MergeableState(window):  # of this replica, unless all are asked for: those of several are added up
                recorder = self.fleet.view(window.scope or "replica").recorder
                return to_json(self.document(self._span(window), recorder).to_dict())
            case History(window):
                recorder = self.fleet.view(window.scope).recorder
                return as_json(history(self.manifest, self.baseline.reference, recorder, self._span(window)))
            case Comparison(window, against):
                return as_json(self._compare(window, against))
            case TakeBaseline(window):
                return as_json(self._take_baseline(window))
            case DropBaseline():
                return as_json(self._drop_baseline())
            case Shared(replica, sequence):
                published = self.publish(sequence if replica == self.fleet.publication.id else 0)
                return (untold(published) if published.withheld else published).pack()

    def snapshot(self) -> Snapshot:
        """The few numbers of the last hour that are worth watching all the time."""
        span = self._span(WindowQuery(WINDOW))
        assert span is not None
        stretches = self.fleet.views["replica"].stretches.up_to(self.baseline.reference, span.end)
        figures = self.recorder.figures(span)
        return snapshot(self.manifest, self.baseline, figures, alert_of(stretches), self.status())

    def status(self) -> Status:
        """Where the statistics are kept, and what they cost since this process started."""
        fleet = self.fleet.status("fleet", self.recorder.clock())
        return Status(self.store.storage, self._overhead(), fleet)

    def publish(self, sequence: int, last: bool = False) -> Published:
        """What this replica counted since it gave that sequence; 0 gives all.

        Withheld while the file that it has resumed from does not name it: the next start would count all of it again.
        """
        publication = self.fleet.publication
        published = publication.since(sequence, self.baselines.taken, last)
        return published._replace(withheld=publication.resumed and publication.id not in self.store.replicas)

    def deliver(self, delivery: Delivery) -> None:
        """Takes what the other replicas counted, and the newest baselines that any of them took."""
        self.fleet.deliver(delivery)
        if delivery.baselines is not None:
            self.baselines.follow(Taken(*delivery.baselines))
            self.recorder.summarize = self.baseline.summarize

    def document(self, span: Span | None = None, recorder: NormRecorder | FleetRecorder | None = None) -> StateDocument:
        """What was recorded in a span, by default since counting began, and by this replica."""
        recorded = (recorder or self.recorder).window(span)
        return StateDocument.of(self.manifest, recorded.covered, recorded.state, recorded.deep)

    def _compare(self, window: WindowQuery, against: str) -> CompareResponse:
        seen = self._observed(window)
        if against.startswith(VERSION):
            other = self._other_version(against.removeprefix(VERSION))
            return compare(self, seen, Observed.of_document(other), other.version, other.layers)
        return compare(self, seen, self._observed(WindowQuery(against, scope=window.scope), "against"))

    def _take_baseline(self, window: WindowQuery) -> BaselineResponse:
        recorder = self.fleet.view(window.scope).recorder
        recorded = recorder.window(self._span(window))
        if recorded.state.requests < BASELINE_REQUESTS:
            raise InvalidInput(
                "too_few_requests",
                f"The window holds {recorded.state.requests} requests, a baseline needs at least {BASELINE_REQUESTS}: "
                "ask for a longer one.",
            )
        if self.baseline.reference is None:
            raise InvalidInput(
                "no_verdict",
                f"This model has no verdict, and live traffic would give it none. {no_reference(self.manifest)}",
            )
        different = recorded.state.traffic.effective
        if different < BASELINE_DIFFERENT:
            raise InvalidInput(
                "too_few_requests",
                f"The window's {recorded.state.requests} requests repeat each other, they say no more than "
                f"{different:.0f} different ones; a baseline needs {BASELINE_DIFFERENT}: ask for another window.",
            )
        _, parts = recorder.history(recorded.covered)
        self.baselines.take(self.baselines.own.taken_from(recorded, [each for _, each in parts if each.requests]))
        return self._baseline_in_force()

    def _drop_baseline(self) -> BaselineResponse:
        self.baselines.drop()
        return self._baseline_in_force()

    def _overhead(self) -> Overhead:
        costs = self.recorder.costs
        elapsed = max(self.recorder.clock() - costs.started, 1e-9) * max(self.workers, 1)
        busy = costs.serving + costs.recording
        return Overhead(
            always_on=costs.recording / busy if busy else 0.0, deep=costs.deep / elapsed, deep_budget=self.deep_budget
        )

    def _other_version(self, version: str) -> StateDocument:
        """What another version saw: in this process, or as it is kept."""
        for sibling in self.siblings(self.manifest.name, version):
            if sibling is not self:
                return sibling.document()
        return kept_version(self.store.directory, self.manifest, version)

    def _baseline_in_force(self) -> BaselineResponse:
        self.recorder.summarize = self.baseline.summarize
        return BaselineResponse(
            model=self.manifest.name,
            version=self.manifest.version,
            baseline=baseline_source(self.baseline),
            kept=len(self.baselines.taken.contents),
        )

    def _span(self, query: WindowQuery, name: str = "window") -> Span | None:
        now = self.recorder.clock()
        if query[:3] == (AUTO, None, None):
            return Span(min(now - PRESENT, self.fleet.view(query.scope).recorder.began(PRESENT_REQUESTS)), now)
        return parse_window(*query[:3], now, name)

    def _observed(self, query: WindowQuery, name: str = "window") -> Observed:
        view = self.fleet.view(query.scope)
        recorded = view.recorder.window(self._span(query, name))
        stretches = view.stretches.up_to(self.baseline.reference, recorded.covered.end)
        fleet = self.fleet.status(view.scope, self.recorder.clock())
        return Observed(recorded, view.recorder.since, stretches, self._overhead(), fleet)

    def _resume(self, kept: Kept) -> None:
        self.fleet.publication.resume(kept)
        self.baselines.resume(Taken(kept.revision, tuple(kept.baselines)))
        self.recorder.summarize = self.baseline.summarize

    def _to_keep(self, newest: dict[str, int]) -> Kept:
        revision, taken = self.baselines.taken
        counted = self.fleet.publication.counted
        return Kept(self.document(), self.recorder.buckets(newest), list(taken), counted, revision)

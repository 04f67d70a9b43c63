"""Plans changes of what is served: reads the repository apart, then decides on what was found there."""

import logging
from collections.abc import Callable
from functools import partial

from runtime.errors import AddNormError
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import Change
from service.repository.loader import Run, defect, log_change, log_failure
from service.repository.recording import Found, Recorded, Recording, record

logger = logging.getLogger("addnorm.service")

Plan = Callable[[Catalog], Change]
Changes = list[tuple[Callable[..., Change], str]]  # what is to be done, and with which model


class Planner:
    """Plans for a catalog.

    Args:
        collectors: get a collector for every artifact that is new.
        run: where statistics are kept and closed.
        read: where the repository is read.
    """

    def __init__(self, catalog: Catalog, collectors: CollectorPool, run: Run, read: Run) -> None:
        self.catalog, self.collectors, self.run, self.read = catalog, collectors, run, read

    def look(self, then: Callable[[Changes | AddNormError], None]) -> None:
        """Hands on what is to be done since the repository was looked at the last time."""
        assert self.catalog.repository is not None
        disk = Recording(self.catalog.repository.directory)
        self.read(partial(record, disk, disk.signatures), lambda found: then(self._due(found)))

    def _due(self, found: Found | AddNormError) -> Changes | AddNormError:
        if isinstance(found, AddNormError):
            return found
        if (watch := self.catalog.watch) is None:
            return []
        changed = watch.changed(Recorded(watch.repository.directory, found))
        gone = set(changed) - watch.known.keys()
        follow = [(Catalog.follow, name) for name in changed if name in watch.known]
        return [*follow, *((Catalog.unload, name) for name in sorted(gone & self.catalog.served.keys()))]

    def ended(self, name: str, plan: Callable[..., Change], error: AddNormError | None) -> None:
        """Notes how a change went that nobody asked for; one that failed for a passing reason becomes due again."""
        log_failure(name, error)
        watch = self.catalog.watch
        # what a worker could not load at its start is no change on disk: looking there again does not repeat it
        if watch is not None and plan != Catalog.reconcile and watch.tried(name, error.retries if error else 0):
            logger.info("model %s is tried again after %d looks at the repository", name, watch.waiting[name])

    def decided(self, change: Change) -> None:
        """Notes that a change is made; what was unloaded by hand is not loaded again by a try that waits."""
        log_change(change)
        if self.catalog.watch is not None and not change.artifacts:
            self.catalog.watch.tried(change.name, retries=0)

    def plan(self, name: str, plan: Plan, then: Callable[[Change | AddNormError | None], None]) -> None:
        """Hands on the change that `plan` makes of model `name`, or why there is none; None: plan it again."""
        if self.catalog.repository is None:
            then(self._decide(name, plan, {}))
            return
        disk = Recording(self.catalog.repository.directory)

        def decide(found: Found | AddNormError) -> None:
            if isinstance(found, AddNormError):
                then(found)
            else:
                self.run(partial(self._decide, name, plan, found), then)

        self.read(partial(record, disk, partial(plan, self.catalog.over(disk))), decide)

    def _decide(self, name: str, plan: Plan, found: Found) -> Change | AddNormError | None:
        repository = self.catalog.repository
        try:
            change = plan(self.catalog.over(repository and Recorded(repository.directory, found)))
            if failures := self.collectors.open_all(change.fresh):
                self.catalog.reject(change, failures)
                return None
            return change
        except AddNormError as error:
            return error.with_traceback(None)
        except Exception:  # it concerns one model: the others are served
            return defect(name)

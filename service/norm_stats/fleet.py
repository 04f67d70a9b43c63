"""This replica's part in a fleet: what it tells, what it was told, and how both read as one service's statistics."""

import logging
import socket
from typing import Literal, NamedTuple

from runtime.drift.stretches import Stretches
from runtime.errors import InvalidInput
from runtime.statistics.fleet import FleetRecorder, Others
from runtime.statistics.recorder import NormRecorder
from runtime.words import quoted
from service.norm_stats.interface import Delivery, Member
from service.norm_stats.publication import Publication
from service.schemas.base import iso
from service.schemas.norm_stats import FleetReplica, FleetStatus
from service.settings import Settings

logger = logging.getLogger("addnorm.statistics")

Scope = Literal["fleet", "replica"]
SILENT = 5.0  # seconds without a word after which a replica counts as silent


class View(NamedTuple):
    """Statistics to read: of this replica alone or of all."""

    scope: Scope
    recorder: NormRecorder | FleetRecorder
    stretches: Stretches


class Fleet:
    """What one collector shares with those of other replicas.

    Attributes:
        joined: whether the settings name others.
    """

    def __init__(self, recorder: NormRecorder, settings: Settings) -> None:
        self.joined = bool(settings.peers or settings.store)
        self.publication = Publication(recorder, f"{socket.gethostname()}:{settings.port}")
        self.others = Others(recorder.layers)
        self.members: tuple[Member, ...] = ()
        self.trouble = ""
        everything = FleetRecorder(recorder, self.others)
        self.views: dict[str, View] = {
            "replica": View("replica", recorder, Stretches(recorder.traffic, lambda: recorder.clock())),
            "fleet": View("fleet", everything, Stretches(everything.traffic, everything.clock)),
        }

    def view(self, scope: str | None) -> View:
        """What is to be read; the fleet's where there is one and nothing else is asked for.

        Raises:
            InvalidInput: there is no such scope, or no fleet.
        """
        if scope is None:
            return self.views["fleet" if self.joined else "replica"]
        if scope not in self.views:
            raise InvalidInput("invalid_scope", f"scope is {quoted(scope)}, expected fleet or replica.")
        if scope == "fleet" and not self.joined:
            raise InvalidInput(
                "no_fleet",
                "This service knows no other replicas: start it with `--peers` or `--store` (docs/scaling.md).",
            )
        return self.views[scope]

    def deliver(self, delivery: Delivery) -> None:
        """Takes what came from the others."""
        if delivery.members is not None:
            self.members = delivery.members
        if delivery.contents or delivery.since is not None:
            since = self.others.since if delivery.since is None else delivery.since
            self.others.put(delivery.contents, since, self.publication.recorder.clock())
        self.trouble = delivery.trouble

    def status(self, scope: Scope, now: float) -> FleetStatus | None:
        """Who counts beside this replica; None where nobody was named."""
        if not self.joined:
            return None
        replicas = [describe(member, now) for member in sorted(self.members, key=lambda member: member.name)]
        ages = [replica.age_seconds for replica in replicas]
        return FleetStatus(
            scope=scope,
            replicas=1 + len(replicas),
            silent=sum(age > SILENT for age in ages),
            oldest_push_seconds=max(ages, default=None),
            others=replicas,
            trouble=self.trouble,
        )


def describe(member: Member, now: float) -> FleetReplica:
    return FleetReplica(
        name=member.name,
        since=iso(member.since),
        heard=iso(member.heard),
        age_seconds=round(max(0.0, now - member.heard), 3),
        clock_offset_seconds=None if member.clock_offset is None else round(member.clock_offset, 3),
    )

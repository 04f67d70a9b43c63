"""The exchange by a store: Redis or Valkey, in which every replica overwrites what it counted, and reads all others'.

Keys, of an artifact: `addnorm:{DIGEST}:RING:NUMBER:KIND` is a hash of replica -> sequence and content, and expires with
its ring; `:replicas`, `:changes` and `:epoch` say who there is, what changed in which order, and whether the store has
lost what it held. The digest in braces keeps them on one node of a cluster.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

from runtime.errors import SettingError, StateError
from runtime.manifest import Manifest
from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP
from runtime.statistics.recorder import Place
from runtime.store.checks import END, within
from runtime.store.shares import FIGURES, KINDS, WHOLE, Published, Replica, Share, Shelf, is_ahead, is_over, lifetime
from service.fleet.exchange import Fetched, FleetError, Met, Shares
from service.fleet.keys import number_of, parse, prefix

TIMEOUT = 2.0  # seconds that the store has to answer
MOST = 100  # changes that are read at once: a replica that starts reads a day of them
CLEANING = 300.0  # seconds between two looks for what has expired
SILENT = 7 * 86_400  # seconds after which a replica that is silent is forgotten
SEQUENCE = 16  # digits
TOTALS = (f"{EVERYTHING}:0:{FIGURES}", f"{EVERYTHING}:0:{WHOLE}", f"{EVERYTHING_DEEP}:0:{WHOLE}")  # last longest
LAST = 1 << 53  # no change has a higher number: Redis counts them in float64
MISSING = "ADDNORM_STORE needs the redis extra: pip install 'addnorm[redis]'."
T = TypeVar("T")

# One step, so that no reader sees half of it. ARGV: replica, what it is, an epoch where there is none; then of each
# share its place and kind, the seconds to keep it, sequence and content. An older sequence changes nothing. A replica
# is heard of now, unless it comes with the time at which it was. A counter of changes that was deleted goes on after
# the last change that is named: what is numbered lower is never read.
PUSH = """
local clock = redis.call('TIME')
local epoch = redis.call('GET', KEYS[3])
if not epoch then
  epoch = ARGV[3]
  redis.call('SET', KEYS[3], epoch)
end
if not redis.call('GET', KEYS[4]) then
  local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  redis.call('SET', KEYS[4], last[2] or 0)
end
if ARGV[4] == '' then
  redis.call('HSET', KEYS[1], ARGV[1], clock[1] .. '.' .. string.format('%06d', clock[2]) .. ' ' .. ARGV[2])
else
  redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[2])
end
for i = 5, #KEYS do
  local at = 5 + 4 * (i - 5)
  local held = redis.call('HGET', KEYS[i], ARGV[1])
  if not held or string.sub(held, 1, 16) < ARGV[at + 2] then
    redis.call('HSET', KEYS[i], ARGV[1], ARGV[at + 2] .. ARGV[at + 3])
    redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[at])
  end
  redis.call('EXPIRE', KEYS[i], ARGV[at + 1])
end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], 2592000) end
return epoch
"""


class RedisStore:
    """Meets the others in Redis or Valkey.

    Args:
        url: redis://, rediss:// or unix://, with user, password and number of the database where there are.

    Raises:
        SettingError: the redis package is missing, or the URL is none.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise SettingError(MISSING) from error
        self.errors = redis.exceptions
        try:
            self.client: Any = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        except ValueError as error:
            raise SettingError(f"store is no URL of a Redis ({error}), expected redis://HOST:PORT.") from error
        known = self.client.get_connection_kwargs()
        self.name = str(known.get("path") or f"{known.get('host')}:{known.get('port')}")  # without the password
        self.script = self.client.register_script(PUSH)
        self.epoch: dict[str, bytes] = {}
        self.revision: dict[str, int] = {}  # of the last change that was read, by digest
        self.shelves: defaultdict[str, Shelf] = defaultdict(Shelf)  # of buckets that may change again
        self.said: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)  # what replicas said they are
        self.run: str | None = None  # of the store's process
        self.cleaned: defaultdict[str, float] = defaultdict(float)  # when it was cleaned last, by digest

    def push(self, manifest: Manifest, published: Published) -> bool:
        replica, digest = published.replica, manifest.digest
        said = b"%f %b" % (published.clock, replica.to_json())
        epoch = self._put(manifest, replica.id.encode(), said, b"", published.shares)
        complete = self.epoch.get(digest) in (None, epoch)
        if not complete:
            for other, known in self.said[digest].items():  # those that have ended tell it no more
                when, _, what = known.partition(b" ")
                held = [share for shares in self.shelves[digest].held.values() for share in of_replica(shares, other)]
                self._put(manifest, other, what, when, held)
        self.epoch[digest] = epoch  # only now: what fails before is put again the next time
        return complete

    def _put(self, manifest: Manifest, replica: bytes, said: bytes, when: bytes, shares: Sequence[Share]) -> bytes:
        """Writes what a replica is and counted; gives the store's epoch."""
        head = prefix(manifest)
        keys = [f"{head}:{name}" for name in ("replicas", "changes", "epoch", "revision")]
        arguments: list[Any] = [replica, said, token_hex(8), when]
        for share in shares:
            member = f"{share.ring}:{share.number}:{share.kind}"
            keys.append(f"{head}:{member}")
            arguments += [member, lifetime(share.ring), f"{share.sequence:0{SEQUENCE}d}", share.content]
        epoch: bytes = self._ask(lambda: self.script(keys, arguments))
        return epoch

    def fetch(self, manifest: Manifest, own: str, everything: bool) -> Fetched:
        head, shelf = prefix(manifest), self.shelves[manifest.digest]
        if everything:
            self.revision.pop(manifest.digest, None)
            shelf.held.clear()
        now, met, troubles = self._meet(manifest)
        since = self.revision.get(manifest.digest, 0)
        span = {"min": f"({since}", "max": LAST, "start": 0, "num": MOST, "withscores": True}
        changes = self._ask(lambda: self.client.zrangebyscore(f"{head}:changes", **span))
        wanted: defaultdict[Place, set[str]] = defaultdict(set)
        latest = max(now, time.time())  # a store whose clock is behind makes no bucket one of the future
        for place, kind in filter(None, (parse(member) for member, _ in changes)):
            if not is_ahead(place, latest):
                wanted[place] |= {kind} if place in shelf.held else KINDS[place[0]]
        self._read(head, shelf, [(*place, kind) for place, kinds in wanted.items() for kind in kinds])
        changed = {place: dict(shelf.held.get(place, {})) for place in wanted}
        shelf.forget([place for place in shelf.held if is_over(place, now)])
        if now - self.cleaned[manifest.digest] > CLEANING:
            self._clean(head, met, now)
            self.cleaned[manifest.digest] = now
        self.revision[manifest.digest] = max([since, *(int(score) for _, score in changes)])  # all of it was read
        return Fetched(changed, met, troubles, more=len(changes) == MOST)

    def forget(self, digest: str) -> None:
        for known in (self.epoch, self.revision, self.shelves, self.said, self.cleaned):
            known.pop(digest, None)

    def close(self) -> None:
        self.client.close()

    def _meet(self, manifest: Manifest) -> tuple[float, list[Met], list[str]]:
        """The store's time, who there is, and what is none."""
        head = prefix(manifest)
        ask = self.client.pipeline(transaction=False).hgetall(f"{head}:replicas").time().get(f"{head}:revision")
        replicas, time_there, revision, server = self._ask(lambda: ask.info("server").execute(raise_on_error=False))
        for answer in (replicas, time_there, revision):
            if isinstance(answer, Exception):
                self._ask(partial(throw, answer))
        self._notice(manifest.digest, number_of(revision or b"") or 0, server)
        seconds, micro = time_there
        now = seconds + micro / 1e6
        met, troubles = [], []
        for name, said in replicas.items():
            try:
                *times, content = said.split(b" ", 2)
                pushed, clock = (float(within(float(each), END)) for each in times)
                replica = Replica.from_json(content, self.name)
                met.append(Met(replica, time.time() - (now - pushed), clock - pushed))
                self.said[manifest.digest][name] = said
            except (StateError, ValueError):
                troubles.append(f"{self.name} holds no replica under {head}:replicas {name[:40]!r}: delete it (HDEL).")
        return now, met, troubles

    def _notice(self, digest: str, revision: int, server: Any) -> None:
        """A store that was started again, or has fewer changes than were read, may have lost some: it is told all."""
        run = server.get("run_id", "") if isinstance(server, dict) else ""  # whose user may not ask for it
        if self.run not in (None, run):
            self.epoch = dict.fromkeys(self.epoch, b"")
        self.run = run
        if revision < self.revision.get(digest, 0):
            self.epoch[digest] = b""
            del self.revision[digest]

    def _read(self, head: str, shelf: Shelf, wanted: list[tuple[str, int, str]]) -> None:
        """Puts on the shelf what all replicas share of these."""
        if not wanted:
            return
        pipe = self.client.pipeline(transaction=False)
        for ring, number, kind in wanted:
            pipe.hgetall(f"{head}:{ring}:{number}:{kind}")
        for (ring, number, kind), fields in zip(wanted, self._ask(pipe.execute), strict=True):
            for replica, content in fields.items():
                if content[:SEQUENCE].isdigit():
                    share = Share(ring, number, kind, int(content[:SEQUENCE]), content[SEQUENCE:])
                    shelf.put(replica.decode(errors="replace"), share)

    def _clean(self, head: str, met: list[Met], now: float) -> None:
        """Removes the names of expired buckets and of replicas that were silent for long, and counts taken over."""
        members = self._ask(lambda: self.client.zrange(f"{head}:changes", 0, -1))
        gone = [
            member for member in members if (found := parse(member)) is None or is_over(found[0], now, expired=True)
        ]
        silent = [each.replica.id for each in met if time.time() - each.heard > SILENT]
        if gone:
            self._ask(lambda: self.client.zrem(f"{head}:changes", *gone))
        taken_over = {start.encode(errors="replace") for each in met for start in each.replica.replaces}
        if taken_over:  # these would count again once it is forgotten who has taken them over
            pipe = self.client.pipeline(transaction=False)
            for place in TOTALS:
                pipe.hdel(f"{head}:{place}", *taken_over)
            self._ask(lambda: pipe.execute(raise_on_error=False))
        if silent:
            self._ask(lambda: self.client.hdel(f"{head}:replicas", *silent))
            self.said.clear()

    def _ask(self, ask: Callable[[], T]) -> T:
        """Raises FleetError where the store does not answer; says what is to be done."""
        errors = self.errors
        try:
            return ask()
        except (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError) as error:
            raise FleetError(f"{self.name} refuses user or password ({error}): put them into ADDNORM_STORE.") from error
        except errors.ReadOnlyError as error:
            raise FleetError(f"{self.name} is read-only, a Redis replica: name its master in ADDNORM_STORE.") from error
        except errors.OutOfMemoryError as error:
            raise FleetError(f"{self.name} is full: give it more memory (maxmemory).") from error
        except errors.TimeoutError as error:
            raise FleetError(f"{self.name} does not answer within {TIMEOUT:g} s.") from error
        except errors.InvalidResponse as error:
            raise FleetError(f"{self.name} is no Redis: it answers otherwise.") from error
        except errors.ConnectionError as error:
            raise FleetError(f"{self.name} cannot be reached ({error}).") from error
        except errors.RedisError as error:
            raise FleetError(f"{self.name} refuses ({error}): Redis 5 or newer, or Valkey, is needed.") from error


def of_replica(shares: Shares, replica: bytes) -> list[Share]:
    return [share for (name, _), share in shares.items() if name == replica.decode(errors="replace")]


def throw(error: Exception) -> None:
    raise error

"""Where the courier runs in a service of one process: in a thread. What it needs of the settings is found here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.fleet.courier import Courier, Local
from service.fleet.exchange import Exchange
from service.http.admission import ApiKeys
from service.settings import Settings

LAST_TURN = 5.0  # seconds that the last turn may take when the service stops


def make_exchange(settings: Settings) -> Exchange | None:
    """The way to meet that the settings name; None where they name none.

    Raises:
        SettingError: an address cannot be used.
    """
    if settings.store is not None:
        from service.fleet.redis_store import RedisStore  # with its client, for those who have a store

        return RedisStore(settings.store)
    if settings.peers:
        from service.fleet.peers import Peers

        keys = ApiKeys.of(settings)
        return Peers(settings.peers, next((key.decode() for key in (*keys.inference, *keys.full)), ""))
    return None


def check_exchange(settings: Settings) -> None:
    """Raises SettingError where `make_exchange` would, before anything is started."""
    if (exchange := make_exchange(settings)) is not None:
        exchange.close()


@contextmanager
def courier_thread(settings: Settings, local: Local) -> Iterator[None]:
    """Has a courier beside what is done meanwhile, where the settings name other replicas."""
    if (exchange := make_exchange(settings)) is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=Courier(exchange, local).run, args=(stop,), name="addnorm-courier", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LAST_TURN)

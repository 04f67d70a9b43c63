"""A server under test: a process and its descendants on one core, timed, paused and measured from outside."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SERVICE_CORE, LOAD_CORE = 0, 1
AUTOGROUP = "/proc/{pid}/autogroup"  # priority of a process's session, where Linux groups processes by session
TICK = os.sysconf("SC_CLK_TCK")
QUIET_TIME, QUIET_SHARE, MOST_QUIET_TIMES = 0.3, 0.2, 100  # seconds; share of a core; polling servers use a little
POLL = 0.002  # seconds between tries of a server that starts


class Process:
    """A command on the service's core, with everything that it starts.

    Args:
        log: file that takes what it prints.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.command, self.log = command, log
        with log.open("wb") as output:
            self.started = time.perf_counter()
            self.popen = subprocess.Popen(
                ["taskset", "-c", str(SERVICE_CORE), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def wait_for_answer(self, port: int, path: str, body: str, timeout: float = 90) -> float:
        """Seconds from exec to the first answer with status 200."""
        while time.perf_counter() - self.started < timeout and self.popen.poll() is None:
            try:
                post(port, path, body)
            except (OSError, http.client.HTTPException):
                time.sleep(POLL)
            else:
                return time.perf_counter() - self.started
        raise SystemExit(
            f"{' '.join(self.command)} does not answer on port {port}; it printed, in {self.log}:\n"
            + self.log.read_text(errors="replace")[-2000:]
        )

    def pids(self) -> list[int]:
        return [self.popen.pid, *descendants(self.popen.pid)]

    def pause(self) -> None:
        """Keeps it from the core while another is measured: some servers poll when idle."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def prefer(self) -> None:
        """Gives the sessions that it began the priority that this process's own has (`preferred`)."""
        own = session_priority(os.getpid())
        for pid in self.pids():
            if own is not None and session_priority(pid) != own:
                Path(AUTOGROUP.format(pid=pid)).write_text(own)

    def wait_until_quiet(self) -> None:
        """Lets it answer what is still under way, as far as it does in time: what comes next must not pay for it."""
        for _ in range(MOST_QUIET_TIMES):
            before = self.cpu_seconds()
            time.sleep(QUIET_TIME)
            if self.cpu_seconds() - before < QUIET_SHARE * QUIET_TIME:
                return

    def stop(self) -> None:
        pids = self.pids()
        self.resume()
        self.popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)
        for pid in pids:
            kill(pid, signal.SIGKILL)
        self.popen.wait()

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return sum(sum(map(int, stat(pid)[11:13])) for pid in self.pids()) / TICK

    def memory_bytes(self) -> list[int]:
        """Proportional set size of each of its processes: its own pages, and its part of those that are shared."""
        return [rollup(pid, "Pss:") for pid in self.pids()]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            kill(pid, number)


def post(port: int, path: str, body: str) -> bytes:
    """The answer's body.

    Raises:
        OSError, HTTPException: there is none, or its status is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}: {content[:500]!r}")
    return content


def kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the command's name: state, parent, ...; see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def rollup(pid: int, name: str) -> int:
    """A line of /proc/PID/smaps_rollup, in bytes; see proc(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), [])
        yield from found
        waiting += found


def session_priority(pid: int) -> str | None:
    """None where this Linux does not group processes by session."""
    path = Path(AUTOGROUP.format(pid=pid))
    return path.read_text().split()[-1] if path.exists() else None


@contextmanager
def preferred() -> Iterator[None]:
    """Gives this process, and what it starts, the highest priority that is not real-time: that pauses every second.

    Where Linux groups processes by session, priorities count within the session only, and the session has its own.
    """
    before, session = session_priority(os.getpid()), Path(AUTOGROUP.format(pid=os.getpid()))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        if before is not None:
            session.write_text("-20")
    except PermissionError:
        raise SystemExit("Priority needs root: run as root, or leave --priority out.") from None
    try:
        yield
    finally:
        if before is not None:
            session.write_text(before)

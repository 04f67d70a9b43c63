"""CPUs: how many this process may use, by its affinity and within its container's quota."""

import math
import os
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that this process may run on, at most its quota rounded up; at least 1.

    Args:
        root: where the cgroup file systems are mounted.
        membership: the file that says which groups this process is in.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, membership)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The smallest CPU quota among this process's groups and those around them, in CPUs; None where none is set."""
    quotas = [quota for group in groups(root, membership) for quota in (quota_v2(group), quota_v1(group)) if quota]
    return min(quotas, default=None)


def groups(root: Path, membership: Path) -> list[Path]:
    """The directories of the groups that limit this process's CPU time, the innermost first.

    A container sees its own group at the mount's root, though its path may be told as the host sees it: so both the
    path and the root are looked at.
    """
    found = []
    for line in read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / controllers if controllers else root
        mounts = [mount] if mount.is_dir() else [root / name for name in controllers.split(",")]
        for place in mounts:
            group = place / path.lstrip("/")
            found += [group, *(parent for parent in group.parents if parent.is_relative_to(place))]
    return found or [root]


def quota_v2(group: Path) -> float | None:
    """`cpu.max`: the quota or `max`, and the period, both in microseconds."""
    match read(group / "cpu.max").split():
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    return None


def quota_v1(group: Path) -> float | None:
    """A quota of -1 is none."""
    quota, period = (read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def read(path: Path) -> str:
    """What a file says; nothing where it is missing or may not be read."""
    try:
        return path.read_text()
    except OSError:
        return ""

"""Directories that are written aside and put in their place at once: readers find one that is whole, old or new.

What a program leaves behind that is killed meanwhile is put right by the next that writes to the same place.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ASIDE, OLD = ".addnorm", "-old"  # ends of the names of what is written, and of what is moved away for it
STALE = 86400.0  # seconds without a change, after which nobody writes to it any more
TRIES = 8  # against others that write to the same place at the same time
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # why a directory does not take a name
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def check_writable(place: Path) -> None:
    """Raises OSError where nothing can be written below `place`, which need not be there yet; leaves nothing there."""
    there = next(parent for parent in (place, *place.absolute().parents) if os.path.lexists(parent))
    Path(tempfile.mkdtemp(dir=there, prefix=".addnorm-")).rmdir()


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A new directory beside `target`, for `put_in_place`; it is removed in the end, and so is what it replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-", suffix=ASIDE))
    try:
        made.chmod(0o755)
        yield made
    finally:
        remove(made)


def put_in_place(made: Path, target: Path, overwrite: bool) -> bool:
    """Renames `made` to `target`; False where something is there and must stay.

    What was there before has the name of `made` then, if the system can exchange names, and else is gone.
    """
    for _ in range(TRIES):
        try:
            made.rename(target)  # it takes the place of nothing, or of an empty directory
            return True
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        if not overwrite:
            return False
        if exchange(made, target) or replace(made, target):
            return True
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))


def exchange(made: Path, target: Path) -> bool:
    """Lets both change names, in one step; False where the system or the disk cannot, or `target` is gone."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(made), os.fsencode(target)
    return rename is not None and rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0


def replace(made: Path, target: Path) -> bool:
    """The same in two steps, between which readers find nothing; False where others wrote there meanwhile."""
    old = made.with_name(made.name + OLD)
    try:
        target.rename(old)
    except FileNotFoundError:
        return False
    try:
        made.rename(target)
        return True
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        return False
    finally:
        if os.path.lexists(target):
            remove(old)
        else:
            old.rename(target)


def tidy(target: Path) -> None:
    """Undoes what killed programs left: puts back what they moved away from `target`, and removes what is stale."""
    pattern = re.compile(rf"\.{re.escape(target.name)}-\w{{8}}{re.escape(ASIDE)}({OLD})?")
    with suppress(OSError):  # whoever writes there says why it cannot
        left = [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]
        moved = [path for path in left if path.name.endswith(OLD)]
        if moved and not os.path.lexists(target):
            max(moved, key=last_change).rename(target)
        for path in left:
            if time.time() - last_change(path) > STALE:
                remove(path)


def last_change(path: Path) -> float:
    """When a directory or a file in it was changed, in Unix time; endless where that cannot be known."""
    try:
        return max(each.lstat().st_ctime for each in (path, *path.iterdir()))
    except OSError:
        return float("inf")


def remove(path: Path) -> None:
    """Removes a directory with all that is in it, or a file; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()

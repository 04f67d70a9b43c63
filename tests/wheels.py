"""Wheels of this checkout, and environments that have one of them, what it asks for, and nothing else."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OUTSIDE = ("PYTHON", "ADDNORM_", "OTEL_")  # variables that are of the tests
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2])
"""


def build(project: Path, sources: Iterable[str], folder: Path) -> Path:
    """Builds the wheel of a project as registries do, from its source distribution.

    Args:
        sources: files and folders of `project` to build it from; the project itself is not written to.
    """
    for name in sources:
        copy, source = folder / "sources" / name, project / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy, ignore=LEFT_OUT) if source.is_dir() else shutil.copy(source, copy)
    made(folder / "sources", "sdist", folder)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    made(unpacked, "wheel", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def made(project: Path, kind: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BUILD, kind, folder], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "absent from the `packages` configuration" not in done.stderr


class Environment:
    """A virtual environment with a wheel, as pipx makes them, but without a network.

    What the wheel asks for, and what that asks for in turn, is linked from the environment that runs the tests; nothing
    else is importable, this repository least of all.
    """

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(OUTSIDE)}
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], env=self.variables, check=True)
        (self.site,) = folder.glob("lib/python*/site-packages")
        (installed,) = self.site.glob("addnorm*.dist-info")
        self.distribution = PathDistribution(installed)
        for needed in closure(self.distribution, extras):
            link(needed, self.site)

    def run(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs a program of this environment to its end."""
        command = [self.bin / program, *arguments]
        return subprocess.run(command, cwd=cwd, env=self.variables, capture_output=True, text=True, timeout=60)


def closure(project: Distribution, extras: Iterable[str]) -> list[Distribution]:
    """All distributions that a project asks for, directly or not, as they are installed here."""
    found: dict[str, Distribution] = {}
    asking = [(project, ("", *extras))]
    for asker, wanted in asking:
        for requirement in map(Requirement, asker.requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted):
                needed = distribution(requirement.name)
                assert requirement.specifier.contains(needed.version, prereleases=True), requirement
                if requirement.name not in found:
                    asking.append((needed, ("", *requirement.extras)))
                found[requirement.name] = needed
    return list(found.values())


def link(needed: Distribution, site: Path) -> None:
    for name in {file.parts[0] for file in needed.files or []} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(needed.locate_file(name))).resolve())

"""Which tests a change touches, as arguments of pytest: `make check` runs them.

    python -m tests.affected [BASE]    BASE is a commit or branch; origin/main, main or HEAD where it is not given

Tests mirror the code: a file's tests are those in the folder of the same path below tests/. Tests of what else uses the
file are not looked for, but for a few of the whole service; `make test` runs all.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tests.docs.test_commands import EACH

ROOT = Path(__file__).parents[1]
TESTS = "test_*.py"
BASES = ("origin/main", "main", "HEAD")
COMMANDS = "tests/docs/test_commands.py::test_commands_do_what_the_document_says"
SMOKE = (  # whatever changed: a served model, what a serving process imports, the documents
    f"{COMMANDS}[README.md]",
    "tests/service/test_light.py",
    "tests/docs/test_docs.py",
)
OPENAPI = "tests/service/http/test_openapi.py"  # of what changes the document
SLOW = (  # folders whose tests take minutes: there only the tests named like the file
    "tests/export",
    "tests/model/training",
    "tests/service/page/browser",
    "tests/service/workers",
)
ELSEWHERE = {  # how a path begins whose tests lie in a folder of another name
    ".dockerignore": "tests/deploy",
    "Dockerfile": "tests/deploy",
    "docker-compose.yml": "tests/deploy",
    "requirements/client-kubernetes.txt": "tests/deploy/kubernetes",
    "service/page/static/": "tests/service/page/browser",
}


def git(*arguments: str) -> list[str]:
    """The lines that git prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def exists(revision: str) -> bool:
    command = ["git", "rev-parse", "--quiet", "--verify", revision]
    return not subprocess.run(command, cwd=ROOT, capture_output=True).returncode


def changed(base: str) -> list[str]:
    """The files that differ from where the branch left `base`: committed, not committed, or new."""
    (fork,) = git("merge-base", base, "HEAD")
    return sorted({*git("diff", "--name-only", fork), *git("ls-files", "--others", "--exclude-standard")})


def affected(files: Iterable[str]) -> list[str]:
    """The tests of changed files, and those of SMOKE; a test is named once, a deleted one not at all."""
    return sorted({*SMOKE, *(test for file in files for test in tests_of(PurePosixPath(file)))})


def tests_of(file: PurePosixPath) -> list[str]:
    """The tests of one file."""
    if file.suffix == ".md" and str(file.parent) in (".", "docs"):  # SMOKE checks all else about documents
        return [f"{COMMANDS}[{document.id}]" for document in EACH if document.id == file.name]
    if file.parts[0] == "tests":
        return tests_in(ROOT / file.parent, file.name if file.name.startswith("test_") else TESTS)
    mirror = f"tests/{file.parent}"
    folder = ROOT / next((tests for start, tests in ELSEWHERE.items() if str(file).startswith(start)), mirror)
    while not folder.exists():
        folder = folder.parent
    named = tests_in(folder, f"test_{file.stem}*.py")
    slow = folder.relative_to(ROOT).as_posix() in SLOW
    found = named if slow and named else tests_in(folder)
    return [*found, OPENAPI] if str(file).startswith(("service/api/", "service/schemas/")) else found


def tests_in(folder: Path, pattern: str = TESTS) -> list[str]:
    """The tests directly in a folder."""
    return [test.relative_to(ROOT).as_posix() for test in sorted(folder.glob(pattern))]


if __name__ == "__main__":
    base = sys.argv[1] if len(sys.argv) > 1 else next(filter(exists, BASES))
    print("\n".join(affected(changed(base))))

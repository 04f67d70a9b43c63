"""Which tests `make check` runs, on this repository and on a small one that git made."""

import subprocess
from pathlib import Path

import pytest

from tests import affected as subject
from tests.affected import COMMANDS, ROOT, SLOW, SMOKE, affected


def beyond_smoke(*files: str) -> set[str]:
    return set(affected(files)) - set(SMOKE)


def test_a_file_has_the_tests_of_its_folder() -> None:
    found = beyond_smoke("service/batching/queue.py")
    assert {"tests/service/batching/test_queue.py", "tests/service/batching/test_batcher.py"} <= found
    assert {Path(test).parent.as_posix() for test in found} == {"tests/service/batching"}


def test_a_folder_without_tests_of_its_own_has_those_above() -> None:
    assert "tests/deploy/test_watching.py" in beyond_smoke("deploy/prometheus/rules.yml")
    assert "tests/clients/python/test_client.py" in beyond_smoke("clients/python/src/addnorm_client/calls.py")


def test_some_files_have_their_tests_elsewhere() -> None:
    assert "tests/deploy/test_compose.py" in beyond_smoke("docker-compose.yml")
    assert beyond_smoke("service/page/static/views.css") == {"tests/service/page/browser/test_views.py"}


def test_in_slow_folders_a_file_has_its_own_tests() -> None:
    assert beyond_smoke("export/verify.py") == {"tests/export/test_verify.py"}
    assert "tests/service/workers/test_supervisor.py" in beyond_smoke("service/workers/channel.py"), "has none"


@pytest.mark.parametrize("folder", SLOW)
def test_slow_folders_exist(folder: str) -> None:
    assert list((ROOT / folder).glob("test_*.py"))


def test_a_test_is_its_own_and_a_helper_is_of_its_folder() -> None:
    assert beyond_smoke("tests/runtime/graph/test_packing.py") == {"tests/runtime/graph/test_packing.py"}
    assert "tests/service/batching/test_queue.py" in beyond_smoke("tests/service/batching/scenarios.py")
    assert beyond_smoke("tests/runtime/graph/test_gone.py") == set()


def test_a_document_with_commands_has_them_run() -> None:
    assert beyond_smoke("docs/api.md") == {f"{COMMANDS}[api.md]"}
    assert beyond_smoke("docs/architecture.md", "docs/gone.md", "CHANGELOG.md") == set()


def test_whatever_changed_some_tests_of_the_whole_service_run() -> None:
    assert affected([]) == sorted(SMOKE)
    assert all((ROOT / test.partition("::")[0]).exists() for test in SMOKE)


def test_changes_since_the_branch_began_count_committed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "ROOT", tmp_path)

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def write(name: str) -> None:
        (tmp_path / name).write_text(name)

    def commit(name: str) -> None:
        write(name)
        git("add", "--all")
        git("commit", "--message", name)

    git("init", "--initial-branch", "main")
    commit("old")
    git("checkout", "-b", "branch")
    commit("committed")
    git("checkout", "main")
    commit("elsewhere")
    git("checkout", "branch")
    (tmp_path / "old").write_text("edited")
    write("new")
    assert subject.changed("main") == ["committed", "new", "old"]
    assert subject.changed("HEAD") == ["new", "old"]
    assert subject.exists("main")
    assert not subject.exists("origin/main")

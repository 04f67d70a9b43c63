import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from addnorm import __main__, cli
from runtime.artifact import Artifact
from runtime.manifest import MODEL
from service import serve as server
from tests.helpers import rewrite

LONG = """import sys; from addnorm import cli
cli.usage = lambda: "a" * 1_000_000
sys.exit(cli.main([]))"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of one command line."""
    try:
        code = cli.main(list(arguments))
    except SystemExit as error:  # argparse's way out
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_complains(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> None:
    """The command ends with code 2 and one sentence on stderr that has these words."""
    code, out, complaint = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert len(complaint.splitlines()) == 1
    assert complaint.startswith("addnorm: ")
    assert complaint.endswith(".\n")
    for word in words:
        assert word in complaint


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    code, out, complaint = run(capsys, *arguments)
    assert (code, complaint) == (0, "")
    for name, (_, summary) in cli.COMMANDS.items():
        assert f"addnorm {name}" in out
        assert summary in out


@pytest.mark.parametrize("command", ["serve", "stats"])
def test_help_of_a_command_lists_every_option(capsys: pytest.CaptureFixture[str], command: str):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    for name, field in cli.load(command).model_fields.items():
        assert name.replace("_", "-") in out.lower()
        assert (field.description or "undocumented").partition(" ")[0] in out


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]):
    assert_complains(capsys, ["swerve"], "'swerve'", *cli.COMMANDS)


def test_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]):
    code, _, complaint = run(capsys, "serve", "--modle", "x")
    assert code == 2
    assert "--modle" in complaint


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["serve", "--port", "x"], "port"),
        (["serve", "--port", "70000"], "65535"),
        (["serve", "--device", "tpu"], "'cuda'"),
        (["serve", "--threads", "-1"], "threads"),
        (["serve", "--log-level", "loud"], "log_level"),
        (["stats", "--timeout", "soon"], "timeout"),
        (["stats", "--timeout", "inf"], "finite"),
        (["stats", "--timeout", "1e300"], "3600"),
        (["score", "a.csv", "--out", "x", "--processes", "9" * 20], "1024"),
        (["export", "x", "--name", "a", "--version", "9" * 300], "version"),
        (["train", "a.csv", "--out", "x", "--threads", "9" * 20], "1024"),
        (["train", "a.csv", "--out", "x", "--epochs", "9" * 400], "epochs"),
        (["train", "a.csv", "--out", b"x\xff".decode(errors="surrogateescape")], r"b'x\xff' is no Unicode text"),
    ],
    ids=lambda given: ascii(" ".join(given)[:40]) if isinstance(given, list) else None,
)
def test_option_that_cannot_be_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str):
    assert_complains(capsys, arguments, word)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "mine.csv"], "give --out: run directory to write, for example runs/intents."),
        (["export", "runs/mine", "--version", "1"], "give --name: name of the model; letters, digits, dots, "),
        (["adopt", "mine"], "give --baseline: texts like those that will be asked: a .txt file with one in a line, "),
        (["score", "mine.csv"], "give --out: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_missing_option_is_asked_for_by_its_name(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
):
    assert_complains(capsys, arguments, f"addnorm: {complaint}")


def test_missing_argument_is_named(capsys: pytest.CaptureFixture[str]):
    code, _, complaint = run(capsys, "train", "--out", "runs/mine")
    assert code == 2 and "required: DATASET" in complaint


def test_options_that_do_not_go_together_are_told_without_the_command(capsys: pytest.CaptureFixture[str]):
    arguments = ["train", "mine.csv", "--out", "runs/mine", "--d-model", "63"]
    assert_complains(capsys, arguments, "addnorm: d_model is 63, expected a multiple of num_heads (4).")


def test_variable_that_cannot_be_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADDNORM_PORT", "x")
    assert_complains(capsys, ["serve"], "port")


@pytest.mark.parametrize("variable", ["ADDNORM_TEACHERS", "ADDNORM_OF"])
def test_variable_that_is_no_list_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
):
    monkeypatch.setenv(variable, "foo")
    command = ["stats"] if variable == "ADDNORM_OF" else ["train", "digits", "--out", "x"]
    assert_complains(capsys, command, f"{variable} is not usable: expected a list in JSON")


def test_variable_that_is_no_unicode_is_named_without_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ADDNORM_API_KEY", "secret\udcff")
    assert_complains(capsys, ["stats"], "addnorm: The value of ADDNORM_API_KEY is no Unicode text: give it")


def test_missing_artifact_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert_complains(capsys, ["serve", "--model", str(tmp_path / "nowhere")], str(tmp_path / "nowhere"))


def test_altered_artifact_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path, text_artifact: Artifact):
    path = rewrite(tmp_path / "1", text_artifact)
    (path / MODEL).write_bytes(b"half")
    assert_complains(capsys, ["serve", "--model", str(path), "--device", "cpu"], str(path / MODEL))


def test_missing_gpu_is_one_sentence(
    capsys: pytest.CaptureFixture[str], text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    arguments = ["serve", "--model", str(text_artifact.path), "--device", "cuda"]
    assert_complains(capsys, arguments, "CUDAExecutionProvider")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://["])
def test_stats_of_no_service_is_one_sentence(capsys: pytest.CaptureFixture[str], url: str):
    assert_complains(capsys, ["stats", url], url)


@pytest.mark.parametrize("command", cli.NEEDS)
def test_command_without_its_extra_says_which(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    assert_complains(capsys, [command], f"`addnorm {command}`", cli.NEEDS[command][1])


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_loads_and_is_documented(command: str):
    loaded = cli.load(command)
    assert loaded.__doc__
    assert hasattr(loaded, "cli_cmd")


def test_interrupted_command_exits_with_130(monkeypatch: pytest.MonkeyPatch):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", interrupt)
    assert cli.main(["serve"]) == 130


def test_interruption_while_commands_are_loaded_exits_with_130(monkeypatch: pytest.MonkeyPatch):
    class Slow(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "addnorm.cli", Slow("addnorm.cli"))
    assert __main__.main() == 130


def test_what_the_system_refuses_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(server, "serve", refuse)
    error = OSError(errno.ENAMETOOLONG, "File name too long", "aaa")
    assert_complains(capsys, ["serve"], "aaa cannot be used (File name too long)")
    error = OSError(errno.EMFILE, "Too many open files")
    assert_complains(capsys, ["serve"], "The system refused what is needed (Too many open files)")
    error = OSError(errno.EBADF, "Bad file descriptor", 7)
    assert_complains(capsys, ["serve"], "The system refused what is needed (Bad file descriptor)")
    error = OSError(errno.ENOSPC, "No space left on device")
    assert_complains(capsys, ["serve"], "Something cannot be written (No space left on device): free some space.")
    error = BrokenPipeError(errno.EPIPE, "Broken pipe")  # to another process
    assert_complains(capsys, ["serve"], "The system refused what is needed (Broken pipe)")


def write_to(output: int, *command: str) -> tuple[int, bytes]:
    """Exit code and complaints of a Python that writes there, in blocks unless -u is given."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, *command], stdout=output, stderr=subprocess.PIPE, check=False, env=env)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", [["-m", "addnorm"], ["-u", "-m", "addnorm"], ["-c", LONG]], ids=["m", "u", "long"])
def test_output_that_nobody_reads_ends_the_command_without_a_word(command: list[str]):
    read, write = os.pipe()
    os.close(read)
    found = write_to(write, *command)
    os.close(write)
    assert found == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("how", "what"), [([], b"What is told"), (["-u"], b"Something")]
)  # nothing is left to fail again
def test_output_without_room_is_one_sentence(how: list[str], what: bytes):
    with Path("/dev/full").open("w") as full:
        code, complaint = write_to(full.fileno(), *how, "-m", "addnorm")
    assert code == 2
    assert complaint.startswith(b"addnorm: %b cannot be written (No space left on device): free some space" % what)
    assert complaint.count(b"\n") == 1


def test_artifact_beside_a_repository_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    arguments = ["serve", "--model", str(tmp_path), "--models", str(tmp_path)]
    assert_complains(capsys, arguments, "leave one of them out")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_repository_without_a_model_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path, workers: str):
    assert_complains(capsys, ["serve", "--models", str(tmp_path), "--workers", workers], str(tmp_path), "NAME/VERSION/")

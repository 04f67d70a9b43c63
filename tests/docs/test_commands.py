"""Every command in the documents is run against a real service, or is listed here with the reason why not."""

import csv
import json
import re
import shlex
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from addnorm.cli import load
from tests.adopted import EMBEDDING, make_texts, source_of
from tests.docs.terminal import Command, Terminal, commands
from tests.export.adopt.onnx_file.files import save, tiny
from tests.export.adopt.tensors.networks import exported, rows_of
from tests.serving import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {  # how a command begins: why it is not run
    "docker ": "needs Docker and a registry; docs/deployment.md says when it was checked",
    "pip wheel ": "tests/test_wheel.py builds it",
    "pipx install ": "tests/test_wheel.py installs it likewise",
    "make install": "installs for minutes; what it installs runs these tests",
    "make test": "runs these tests",
    "make check": "the same",
    "python examples/drift.py": "tests/examples runs it",
    "python examples/networks.py": "the same",
    "make run DEVICE=": "installs CUDA for minutes, and needs a GPU; docs/gpu.md says what was seen",
    "make bench": "measures for minutes, and needs wrk",
    "make profile": "the same",
    "apt-get ": "needs root, and changes the machine",
    "python -m benchmarks.": "measures for minutes, with data that are not in the repository",
    "addnorm train clinc150": "downloads its data and trains for minutes",
    "addnorm train digits": "tests/examples does, in a smaller size",
    "addnorm train mine.csv": "trains for minutes; docs/own-data.md has a small one that is run",
    "addnorm train my_texts.csv --out runs/mine": "trains for minutes; docs/own-data.md has a small one that is run",
    "addnorm export runs/mine": "needs that run",
    "make run OPENVINO=1": "installs OpenVINO, which is here already",
    "addnorm adopt my_encoder/": "exports for half a minute; docs/adopt.md has one that is run",
    "addnorm export runs/pre": "needs that run",
    "addnorm serve --model models/mine/2": "needs that run",
    "kubectl ": "needs a cluster; tests/deploy renders and checks what is applied",
    "helm ": "the same",
    "addnorm serve --store redis://redis": "needs a Redis of that name; tests/service/fleet starts one",
    "pip install ": "tests/test_wheel.py installs the wheel likewise",
    "serve run deploy.ray.serve:app": "needs a Ray cluster; tests/deploy/ray has one where ray is installed",
    "addnorm score log/": "needs a Ray cluster; benchmarks/scaling/ray_score.py starts one",
}


def stripped(command: Command) -> str:
    """The command without the settings before it and the folder of the virtual environment."""
    return re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command.text).replace(".venv/bin/", "")


def is_run(command: Command) -> bool:
    return not stripped(command).startswith(tuple(NOT_RUN))


EACH = [pytest.param(each, id=each.name) for each in DOCUMENTS if any(map(is_run, commands(each)))]


def write_data(folder: Path) -> None:
    """The reader's own data: 480 short texts of three classes, and the same as JSON lines with other columns."""
    topics = {
        "cancel": (("cancel", "stop", "end"), ("my order", "the delivery", "the subscription", "it", "that purchase")),
        "status": (("where is", "when comes", "track"), ("my parcel", "the order", "my package", "the box", "it")),
        "refund": (("refund", "pay back", "return"), ("my money", "the price", "that amount", "the fee", "the sum")),
    }
    ends = ("please", "now", "today", "if you can", "as soon as possible", "I ordered last week", "for me", "at once")
    starts = ("", "hello ", "can you ", "I want to know ")
    rows = [
        (f"{start}{verb} {thing} {end}", label)
        for label, (verbs, things) in topics.items()
        for start, verb, thing, end in product(starts, verbs, things, ends)
    ]
    with (folder / "my_texts.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])
    lines = [json.dumps({"question": text, "topic": label}) for text, label in rows[::6]]
    (folder / "tickets.jsonl").write_text("\n".join(lines) + "\n")


def write_network(folder: Path) -> None:
    """What examples/networks.py leaves, in the place of a network that is trained."""
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(exported("image"))
    np.savez(folder / "rows.npz", **rows_of("image", 64), label=np.arange(64) % 3)
    (folder / "labels.txt").write_text("one\ntwo\nthree\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("document", EACH)
def test_commands_do_what_the_document_says(document: Path, tmp_path: Path, shared_path: Path) -> None:
    write_data(tmp_path)
    if document.name in ("adopt.md", "bf16.md"):  # an encoder as small as can be in the place of the real one
        (tmp_path / "all-MiniLM-L6-v2").symlink_to(source_of(EMBEDDING, shared_path))
        save(tmp_path / "onnx", tiny())
        (tmp_path / "texts.txt").write_text("\n".join(make_texts()) + "\n")
        write_network(tmp_path / "runs" / "networks-example" / "image")
    chosen = [command for command in commands(document) if is_run(command)]
    with Terminal(tmp_path) as terminal:
        if chosen and not re.search("make run|addnorm serve", chosen[0].text):
            terminal.run(Command("make run"))
        for command in chosen:
            terminal.run(command)


def test_reasons_are_given_for_commands_that_exist() -> None:
    every = [stripped(command) for document in DOCUMENTS for command in commands(document)]
    for beginning in NOT_RUN:
        assert any(text.startswith(beginning) for text in every), f"no document has a command `{beginning}`"


def test_commands_that_are_not_run_name_what_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    makefile = (ROOT / "Makefile").read_text()
    for command in (command for document in DOCUMENTS for command in commands(document)):
        program, *words = shlex.split(stripped(command))
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.M), command
        elif program == "addnorm" and words[0] != "stats":
            load(words[0])(_cli_parse_args=words[1:])  # type: ignore[call-arg]
        elif program == "docker" and words[0] == "compose":
            assert {words[n + 1] for n, word in enumerate(words) if word == "--profile"} <= profiles, command
            if "run" in words:
                assert next(word for word in words[words.index("run") + 1 :] if word[0] != "-") in services, command
        elif program in ("kubectl", "helm"):
            assert all((ROOT / word).exists() for word in words if word.startswith("deploy/")), command
        elif program == "python" and words[0] == "-m":
            place = ROOT / words[1].replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), command


def test_expected_output_is_read_from_comments(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("```sh\nls \\\n  -l   # lists # → total\n\n# only a comment\n```\n```sh\n$ pwd\n/tmp\n```\n")
    assert commands(document) == [Command("ls -l", "total"), Command("pwd")]

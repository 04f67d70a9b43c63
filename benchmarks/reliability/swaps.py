"""Versions swapped under load, half of them broken in every way that was thought of: no request is to fail."""

import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.reliability.faults import Clients
from benchmarks.reliability.service import Service, serving
from runtime.artifact import read_artifact, write_artifact
from runtime.manifest import CANARY, MANIFEST, MODEL, TOKENIZER
from service.settings import EMBEDDED


def publish(directory: Path, version: str) -> Path:
    artifact = read_artifact(EMBEDDED)
    manifest = artifact.manifest.model_copy(update={"name": "texts", "version": version})
    return write_artifact(directory / "texts" / version, manifest, artifact.files).path


def rewrite(path: Path, name: str, content: bytes) -> None:
    """Writes a version anew with another file, its hashes as if it had been exported so."""
    artifact = read_artifact(path)
    write_artifact(path, artifact.manifest, artifact.files | {name: content}, overwrite=True)


def wrong_canary(path: Path) -> None:
    canary = json.loads((path / CANARY).read_bytes())
    canary["logits"][0][0] += 1.0
    rewrite(path, CANARY, json.dumps(canary).encode())


def as_pipe(name: str) -> Callable[[Path], None]:
    def break_it(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return break_it


def as_loop(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.name)


def half(path: Path) -> None:
    content = (path / MODEL).read_bytes()
    (path / MODEL).write_bytes(content[: len(content) // 2])


BREAKS: dict[str, Callable[[Path], None]] = {
    "half a model": half,
    "no tokenizer": lambda path: (path / TOKENIZER).unlink(),
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "a manifest of 5 MB": lambda path: (path / MANIFEST).write_bytes(b"[" * 5_000_000),
    "garbage as a graph": lambda path: rewrite(path, MODEL, b"garbage"),
    "garbage as a tokenizer": lambda path: rewrite(path, TOKENIZER, b"{}"),
    "a wrong canary": wrong_canary,
    "a pipe as a manifest": as_pipe(MANIFEST),
    "a pipe as a model": as_pipe(MODEL),
    "a link to itself": as_loop,
    "a closed folder": lambda path: path.chmod(0),
}


def swap(service: Service, directory: Path, version: int, rng: random.Random, found: Counter[str]) -> None:
    """One version more, whole or broken; the broken ones go again."""
    path = publish(directory, str(version))
    broken = version % 2 == 1
    how = rng.choice(sorted(BREAKS))
    if broken:
        BREAKS[how](path)
    asked = json.dumps({"parameters": {"version": str(version)}}).encode()
    answer = service.ask("/v2/repository/models/texts/load", asked)
    refused = "error" in answer
    root_reads_all = how == "a closed folder" and os.getuid() == 0
    if refused is not broken and not root_reads_all:
        found[f"wrong outcome: {how if broken else 'whole'}: {answer}"] += 1
    found["refused" if refused else "loaded"] += 1
    if broken:
        if path.is_symlink():
            path.unlink()
        else:
            path.chmod(0o755)
            shutil.rmtree(path)


def swaps(count: int = 50, seed: int = 1) -> Counter[str]:
    """Loads `count` versions, every other one broken, while clients ask."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        publish(directory, "1")
        options = ("--workers", "2", "--models", folder, "--model-control", "explicit")
        with serving(*options) as service, Clients(service, 4) as asking:
            for version in range(2, count + 2):
                swap(service, directory, version, rng, asking.found)
    return asking.found

"""Pen paths and spoken digits: read as they are described, split as is said, and nothing else is taken for them."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from runtime.errors import DataError
from studies import recordings
from studies.claim import TUNING_SEEDS
from studies.recordings import BANDS, FRAME, HOP, LONGEST, RATE
from studies.tasks import digits


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADDNORM_DATA", str(tmp_path))
    for name in ("pendigits", "fsdd"):
        (tmp_path / name).mkdir()
    readers = (recordings.pen_digits, recordings.spoken_digits)
    for reader in readers:
        reader.cache_clear()
    yield tmp_path
    for reader in readers:
        reader.cache_clear()


def tone(hertz: float, seconds: float) -> bytes:
    target = io.BytesIO()
    times = np.arange(int(seconds * RATE)) / RATE
    wavfile.write(target, RATE, (8000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16))
    return target.getvalue()


def pack(folder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(folder / "fsdd" / "recordings.tar.xz", "w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"recordings/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    lines = sorted(f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files.items())
    monkeypatch.setattr(recordings, "SPOKEN_SHA256", hashlib.sha256("\n".join(lines).encode()).hexdigest())


def test_pen_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["".join(f"{10 * digit + point}," for point in range(16)) + f"{1 << digit:010b}"[::-1] for digit in range(3)]
    for name, lines in (("PEN_TRAINING", rows), ("PEN_TEST", rows[:1])):
        file = getattr(recordings, name)
        (folder / file.path).write_text("\n".join(lines) + "\n")
        checksum = hashlib.sha256((folder / file.path).read_bytes()).hexdigest()
        monkeypatch.setattr(recordings, name, recordings.RemoteFile(file.path, file.url, checksum))
    monkeypatch.setattr(recordings, "PEN_VALIDATION", 1)
    task = recordings.pen_digits()
    assert [len(split.targets) for split in task] == [2, 1, 1]
    assert task.training.targets.tolist() == [0, 1] and task.validation.targets.tolist() == [2]
    known = np.array([[10 * digit + point for point in range(16)] for digit in range(2)])
    expected = ((known - known.mean()) / known.std()).reshape(2, 8, 2)
    np.testing.assert_allclose(task.training.inputs[..., :2], expected, atol=1e-6)
    assert (task.training.inputs[..., 2] == 1).all()


def test_spoken_digits_are_split_by_take_and_padded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes = {"3_ann_10": 0.2, "4_ann_11": 0.5, "5_bob_7": 0.2, "6_bob_4": 3.0}
    pack(folder, {f"{name}.wav": tone(500, seconds) for name, seconds in takes.items()}, monkeypatch)
    task = recordings.spoken_digits()
    assert [split.targets.tolist() for split in task] == [[3, 4], [5], [6]]
    frames = [1 + (int(seconds * RATE) - FRAME) // HOP for seconds in (0.2, 0.5)]
    assert task.training.inputs[..., -1].sum(1).tolist() == frames and task.test.inputs[..., -1].sum() == LONGEST
    beyond = task.training.inputs[0, frames[0] :]
    assert (beyond == 0).all()


@pytest.mark.parametrize("hertz", [200, 1000, 3000])
def test_a_tone_is_in_the_band_of_its_frequency(hertz: float) -> None:
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), BANDS + 2) / 2595) - 1)
    nearest = int(np.abs(edges[1:-1] - hertz).argmin())
    energies = recordings.band_energies(tone(hertz, 0.3))
    assert (energies.argmax(1) == nearest).all()


def test_other_recordings_and_broken_archives_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(folder, {"3_ann_10.wav": tone(500, 0.2)}, monkeypatch)
    monkeypatch.setattr(recordings, "SPOKEN_SHA256", "0" * 64)
    with pytest.raises(DataError, match="holds other recordings than expected"):
        recordings.spoken_digits()
    (folder / "fsdd" / "recordings.tar.xz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"cannot be read \(.*\): remove it to download it again\.$"):
        recordings.spoken_digits()


def test_rates_are_chosen_by_other_digits_than_those_reported_on() -> None:
    chosen, reported = (digits(seed=seed)[1].inputs for seed in (TUNING_SEEDS[0], 0))
    training = digits()[0].inputs
    assert (len(training), len(chosen), len(reported)) == (1200, 297, 300)
    rows = [tuple(row) for part in (training, chosen, reported) for row in part.tolist()]
    assert len(set(rows)) == len(rows)

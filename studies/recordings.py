"""Two larger tasks, as sequences of steps: how digits are written with a pen, and how they are spoken.

Pendigits (UCI, Alpaydin & Alimoglu 1998, CC BY 4.0): 8 points of a pen's path; other people wrote the test digits.
Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0): six speakers at 8 kHz; 3 to 32 steps of 32 ms.
Both are read from the folder of data sets (--data, ADDNORM_DATA), and downloaded where they are missing.
"""

# N sequences, S steps, F features of a step, K samples of a frame, W frequencies, M bands

import hashlib
import io
import os
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import wavfile

from model.data.download import RemoteFile, fetch
from runtime.errors import DataError
from studies.tasks import Split, Task

PEN_SOURCE = "https://raw.githubusercontent.com/1nflktd/RedeNeuralGoIA2/8f9835b47a136471f90943f13bf03ce076da5557/"
PEN_TRAINING = RemoteFile(
    "pendigits/pendigits.tra",
    PEN_SOURCE + "pendigits.tra",
    "46d918c0bf055fc9cbed117c9c4e34af870a4f9b42d4716e5a6f27ab2e298a9f",
)
PEN_TEST = RemoteFile(
    "pendigits/pendigits.tes",
    PEN_SOURCE + "pendigits.tes",
    "70f0eb502f352398cbab8f3cf8c60365ceede5390a0ed78fe7767739e7173ae1",
)
POINTS, PEN_VALIDATION = 8, 1494  # the last digits of the training file choose rates

RATE, FRAME, HOP, LONGEST, BANDS = 8000, 512, 256, 32, 16  # samples a second, of a frame, between two; steps; bands
SPOKEN = RemoteFile(
    "fsdd/recordings.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e81b692f806f9140c2d2777410d7a1.tar.gz",
    sha256="",  # GitHub packs it anew from time to time
)
# of lines of a name and its file's SHA-256, sorted
SPOKEN_SHA256 = "3ee995d6778c7ff34ae05297eb4f0002f5097dec693dcf8735ec30e8d8146944"
TEST_TAKES, VALIDATION_TAKES = range(5), range(5, 10)  # of each digit and speaker: the official test, and 5 more


def data_folder() -> Path:
    return Path(os.environ.get("ADDNORM_DATA") or "data")


@cache
def pen_digits() -> Task:
    """Pen paths [N, 8, 2 + 1]; the last feature is 1: there is no padding.

    Raises:
        DataError: the files cannot be had.
    """
    training, test = (pen_file(file) for file in (PEN_TRAINING, PEN_TEST))
    cut = len(training[1]) - PEN_VALIDATION
    parts = [(training[0][:cut], training[1][:cut]), (training[0][cut:], training[1][cut:]), test]
    return task_of([(list(points), classes) for points, classes in parts])


def pen_file(file: RemoteFile) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points [N, 8, 2] between 0 and 100, and digits [N], which a file has as 10 characters, one of them a 1."""
    rows = [line.split(",") for line in fetch(file, data_folder()).read_text().split()]
    points = np.array([row[:-1] for row in rows], dtype=np.float32).reshape(-1, POINTS, 2)
    return points, np.array([row[-1].index("1") for row in rows])


@cache
def spoken_digits() -> Task:
    """Spoken digits [N, 32, 16 + 1] as logarithms of mel band energies; the last feature is 0 for padding.

    Raises:
        DataError: the recordings cannot be had.
    """
    parts: list[tuple[list[NDArray[np.float32]], list[int]]] = [([], []), ([], []), ([], [])]
    for name, recording in sorted(recordings().items()):
        digit, _, take = Path(name).stem.split("_")  # 7_jackson_32.wav
        part = 2 if int(take) in TEST_TAKES else 1 if int(take) in VALIDATION_TAKES else 0
        parts[part][0].append(band_energies(recording))
        parts[part][1].append(int(digit))
    return task_of([(sequences, np.array(classes)) for sequences, classes in parts])


def recordings() -> dict[str, bytes]:
    """The 3,000 wav files by name, from an archive whose packing does not matter: its content is what is checked."""
    local = data_folder() / "fsdd" / "recordings.tar.xz"
    archive = local if local.is_file() else fetch(SPOKEN, data_folder())
    try:
        with tarfile.open(archive) as tar:
            members = [each for each in tar if each.name.endswith(".wav")]
            files = {Path(each.name).name: tar.extractfile(each) for each in members}
            found = {name: file.read() for name, file in files.items() if file is not None}
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{archive} cannot be read ({reason}): remove it to download it again.") from error
    lines = sorted(f"{name} {hashlib.sha256(wav).hexdigest()}" for name, wav in found.items())
    if hashlib.sha256("\n".join(lines).encode()).hexdigest() != SPOKEN_SHA256:
        raise DataError(f"{archive} holds other recordings than expected: remove it to download it again.")
    return found


def band_energies(wav: bytes) -> NDArray[np.float32]:
    """Logarithms of the energies [S, M] in bands of equal width on the mel scale, of at most LONGEST frames."""
    samples = wavfile.read(io.BytesIO(wav))[1].astype(np.float64) / 2**15
    frames_SK = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP][:LONGEST]
    power_SW = np.abs(np.fft.rfft(frames_SK * np.hanning(FRAME))) ** 2
    return np.log(power_SW @ mel_bands() + 1e-6).astype(np.float32)


@cache
def mel_bands() -> NDArray[np.float64]:
    """Triangles [W, M] between 0 Hz and half the rate; m = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, p. 150)."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    low, centre, high = ((700 * (10 ** (mels / 2595) - 1))[part : part + BANDS] for part in range(3))
    frequencies_W1 = np.fft.rfftfreq(FRAME, 1 / RATE)[:, None]
    rising, falling = (frequencies_W1 - low) / (centre - low), (high - frequencies_W1) / (high - centre)
    return np.clip(np.minimum(rising, falling), 0, None)


@torch.inference_mode(False)
def task_of(parts: list[tuple[list[NDArray[np.float32]], NDArray[np.int64]]]) -> Task:
    """Sequences [S, F] of their own lengths as [N, S, F + 1], standardized, with 0 beyond a sequence's end."""
    known = np.concatenate(parts[0][0])
    mean, deviation = known.mean(), known.std()
    longest = max(len(each) for sequences, _ in parts for each in sequences)
    splits = []
    for sequences, classes in parts:
        inputs = torch.zeros(len(sequences), longest, known.shape[1] + 1)
        for row, sequence in zip(inputs, sequences, strict=True):
            row[: len(sequence), :-1] = torch.from_numpy((sequence - mean) / deviation)
            row[: len(sequence), -1] = 1
        splits.append(Split(inputs, torch.from_numpy(classes)))
    return Task(*splits)

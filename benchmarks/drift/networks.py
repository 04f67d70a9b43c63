"""`python -m benchmarks.drift.networks --data DATA`: how often windows of images and tables are called drift.

Three small networks with BatchNorm are trained here and adopted: handwritten digits and a table of cells, which come
with scikit-learn, and spectrograms of spoken digits (DATA/fsdd). Nothing of the method was chosen on them.
"""

import io
import tarfile
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, CliApp
from scipy.ndimage import rotate, uniform_filter
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn
from torch.nn import functional as F

from benchmarks.document import markdown
from export.adopt.tensors.adopter import adopt_tensors
from export.adopt.tensors.answer import TensorHints
from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.drift.detector import Reference
from runtime.drift.numbers import request_features
from runtime.graph.tensor_graph import TensorGraph
from runtime.graph.tensors import TensorEncoder
from runtime.manifest import TensorInputs
from runtime.options import option_config

Rows = NDArray[np.float32]
Labelled = tuple[Rows, NDArray[np.int64]]
WINDOWS, SIZES, EPOCHS = 400, (50, 200), 30
BANDS, FRAMES, STRANGERS = 32, 32, ("theo", "yweweler")  # speakers that are held out


@dataclass(frozen=True, slots=True)
class World:
    """A network's rows: for training, for the baseline, ordinary ones that neither has seen, and odd ones by name."""

    name: str
    network: nn.Module
    train: Labelled
    baseline: Labelled
    ordinary: Rows
    odd: dict[str, Rows]


class Networks(BaseSettings):
    """Measures verdicts over networks of tensors."""

    model_config = option_config("python -m benchmarks.drift.networks")

    data: Path = Path("data")
    """Folder of the data sets: fsdd/."""

    def cli_cmd(self) -> None:
        table: list[list[str]] = []
        for world in (digits(), cells(), spoken(self.data)):
            with tempfile.TemporaryDirectory() as folder:
                artifact, accuracy = adopted(world, Path(folder))
                rates = {
                    name: shares(artifact, rows) for name, rows in {"as they are": world.ordinary, **world.odd}.items()
                }
            table += [[world.name, f"{accuracy:.3f}", name, *found] for name, found in rates.items()]
        print(markdown(["network", "accuracy", "rows", *(f"windows of {size}" for size in SIZES)], table))


def convolutional(classes: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes)),
    )


def thirds(rows: Rows, classes: NDArray[np.int64]) -> tuple[Labelled, Labelled, Rows]:
    train, baseline, ordinary = np.array_split(np.random.default_rng(0).permutation(len(rows)), 3)
    return (rows[train], classes[train]), (rows[baseline], classes[baseline]), rows[ordinary]


def noisy(rows: Rows, sigma: float) -> Rows:
    return rows + np.random.default_rng(1).normal(0, sigma, rows.shape).astype(np.float32)


def digits() -> World:
    pixels, classes = load_digits(return_X_y=True)
    parts = thirds((pixels / 16).reshape(-1, 1, 8, 8).astype(np.float32), classes)
    x = parts[2]
    odd = {
        "noise of .1": noisy(x, 0.1),
        "noise of .2": noisy(x, 0.2),
        "blurred, 3 x 3": uniform_filter(x, (1, 1, 3, 3)),
        "gain of 1.2": 1.2 * x,
        "turned by 15 degrees": rotate(x, 15, axes=(2, 3), reshape=False, order=1),
    }
    return World("digits", convolutional(10), *parts, odd)


def cells() -> World:
    columns, classes = load_breast_cancer(return_X_y=True)
    hidden = (nn.Linear(30, 32), nn.BatchNorm1d(32), nn.ReLU())
    parts = thirds(columns.astype(np.float32), classes)
    shifted, scaled = parts[2].copy(), parts[2].copy()
    shifted[:, 8] += 2 * columns[:, 8].std()
    scaled[:, 8] *= 2
    odd = {"a column shifted by two deviations": shifted, "a column doubled": scaled}
    return World("cells", nn.Sequential(nn.BatchNorm1d(30), *hidden, nn.Linear(32, 2)), *parts, odd)


def spoken(data: Path) -> World:
    """Four speakers in all three parts; two others are odd."""
    sounds = {True: list[tuple[Rows, int]](), False: list[tuple[Rows, int]]()}
    for digit, speaker, sound in recordings(data / "fsdd" / "recordings.tar.xz"):
        sounds[speaker in STRANGERS].append((sound, digit))
    known, strange = ([sound for sound, _ in sounds[key]] for key in (False, True))
    parts = thirds(spectrograms(known), np.array([digit for _, digit in sounds[False]]))
    third = np.array_split(np.random.default_rng(0).permutation(len(known)), 3)[2]
    heard, rng = [known[place] for place in third], np.random.default_rng(1)
    odd = {
        "another speaker": spectrograms(strange),
        "noise 20 dB below": spectrograms([s + rng.normal(0, 0.1 * s.std(), len(s)).astype(np.float32) for s in heard]),
        "6 dB louder": spectrograms([2 * sound for sound in heard]),
        "blurred, 3 x 3": uniform_filter(parts[2], (1, 1, 3, 3)),
    }
    return World("spoken digits", convolutional(10), *parts, odd)


def recordings(path: Path) -> Iterator[tuple[int, str, Rows]]:
    """Digit, speaker and samples of every recording."""
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.name.endswith(".wav") and (file := archive.extractfile(member)):
                digit, speaker, _ = Path(member.name).stem.split("_")
                with wave.open(io.BytesIO(file.read())) as sound:
                    samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
                yield int(digit), speaker, samples.astype(np.float32) / 32768


def spectrograms(sounds: list[Rows]) -> Rows:
    """Logarithmic power in bands [R, 1, BANDS, FRAMES], of half a second or so."""
    window, length = torch.hann_window(256), 128 * FRAMES
    padded = torch.stack(
        [F.pad(torch.from_numpy(sound[:length]), (0, max(0, length - len(sound)))) for sound in sounds]
    )
    power = torch.stft(padded, 256, 128, window=window, return_complex=True).abs().square()[:, :128, :FRAMES]
    bands = power.reshape(len(sounds), BANDS, -1, FRAMES).mean(2)
    return torch.log10(bands + 1e-6)[:, None].numpy()


def adopted(world: World, folder: Path) -> tuple[Artifact, float]:
    """The network, trained and adopted, and its accuracy on the baseline's rows."""
    torch.manual_seed(0)
    fit(world.network, *world.train)
    axes = {"x": {0: "rows"}, "scores": {0: "rows"}}
    mode = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        world.network, (torch.from_numpy(world.baseline[0][:2]),), str(folder / "net.onnx"), input_names=["x"],
        output_names=["scores"], dynamic_axes=axes, do_constant_folding=False, training=mode, dynamo=False,
    )  # fmt: skip
    np.savez(folder / "rows.npz", x=world.baseline[0], label=world.baseline[1])
    (folder / "labels.txt").write_text("\n".join(map(str, range(int(world.train[1].max()) + 1))))
    hints = TensorHints(labels=folder / "labels.txt", label="label")
    found = adopt_tensors(folder / "net.onnx", folder / "rows.npz", folder / "m" / "net" / "1", hints)
    assert found.accuracy is not None
    return found.artifact, found.accuracy


def fit(network: nn.Module, rows: Rows, classes: NDArray[np.int64]) -> None:
    optimizer, rng = torch.optim.AdamW(network.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(rows)), max(1, len(rows) // 32)):
            optimizer.zero_grad()
            F.cross_entropy(network(torch.from_numpy(rows[batch])), torch.from_numpy(classes[batch])).backward()
            optimizer.step()
    network.eval()


def shares(artifact: Artifact, rows: Rows) -> list[str]:
    """Share of windows called drift, and mix shift in brackets, by size."""
    reference = read_baseline(artifact).reference
    assert reference is not None and isinstance(artifact.manifest.inputs, TensorInputs)
    sequences = [item.tokens for item in TensorEncoder(artifact.manifest.inputs).encode_arrays({"x": rows})]
    features, classes = request_features(TensorGraph(artifact).run(sequences))

    def states(size: int, rng: np.random.Generator) -> list[str]:
        found = []
        for _ in range(WINDOWS):
            taken = rng.choice(len(rows), size, replace=size > len(rows))
            found.append(state_of(reference, features[taken], classes[taken]))
        return found

    each = [states(size, np.random.default_rng(size)) for size in SIZES]
    return [f"{found.count('drift') / WINDOWS:.2f} ({found.count('mix_shift') / WINDOWS:.2f})" for found in each]


def state_of(reference: Reference, features: NDArray[np.float64], classes: NDArray[np.int64]) -> str:
    return reference.judge(reference.sums(features, classes)).state


if __name__ == "__main__":
    CliApp.run(Networks)

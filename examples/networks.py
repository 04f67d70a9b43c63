"""An image network and a table network with BatchNorm, adopted from ONNX files: train, adopt, serve, ask, judge.

    python examples/networks.py image    handwritten digits as images; odd ones are noisy
    python examples/networks.py table    measurements of cells as a table; of the odd ones, a column is in other units

The data come with scikit-learn. A third of the rows trains the network, a third is the baseline, of the last third one
half is asked as it is and the other half is altered. Commands are printed.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from drift import addnorm, served
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn
from torch.nn import functional as F

Rows = NDArray[np.float32]
BATCH, EPOCHS = 8, 30


@dataclass(frozen=True, slots=True)
class Task:
    """A network, its data, and what makes them odd."""

    network: nn.Module
    rows: Rows
    classes: NDArray[np.int64]
    labels: list[str]

    def odd(self, rows: Rows) -> Rows:
        rows = rows.copy()
        if rows.ndim == 4:
            return rows + np.random.default_rng(1).normal(0, 0.3, rows.shape).astype(np.float32)
        rows[:, 0] *= 2.54  # the radius, in other units
        return rows


def image() -> Task:
    pixels, classes = load_digits(return_X_y=True)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )
    rows = (pixels / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    return Task(network, rows, classes, [f"digit {digit}" for digit in range(10)])


def table() -> Task:
    columns, classes = load_breast_cancer(return_X_y=True)
    hidden = (nn.Linear(30, 32), nn.BatchNorm1d(32), nn.ReLU())
    network = nn.Sequential(nn.BatchNorm1d(30), *hidden, nn.Linear(32, 2))
    return Task(network, columns.astype(np.float32), classes, ["malignant", "benign"])


def train(task: Task, rows: NDArray[np.int64]) -> None:
    optimizer, rng = torch.optim.AdamW(task.network.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(rows), max(1, len(rows) // 32)):
            optimizer.zero_grad()
            x, wanted = torch.from_numpy(task.rows[batch]), torch.from_numpy(task.classes[batch])
            F.cross_entropy(task.network(x), wanted).backward()
            optimizer.step()
    task.network.eval()


def export(network: nn.Module, example: Rows, path: Path) -> None:
    """As an ONNX file that keeps its BatchNorms, with a free number of rows."""
    axes = {"x": {0: "rows"}, "scores": {0: "rows"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the older one, which can leave them unfolded
        torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            str(path),
            input_names=["x"],
            output_names=["scores"],
            dynamic_axes=axes,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["image", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/networks-example"), help="where files and model go")
    options = parser.parse_args()
    torch.manual_seed(0)
    task, out = {"image": image, "table": table}[options.kind](), options.out / options.kind
    trained, baseline, asked = np.array_split(np.random.default_rng(0).permutation(len(task.rows)), 3)
    train(task, trained)
    out.mkdir(parents=True, exist_ok=True)
    export(task.network, task.rows[:2], out / "network.onnx")
    np.savez(out / "rows.npz", x=task.rows[baseline], label=task.classes[baseline])
    (out / "labels.txt").write_text("\n".join(task.labels))
    files = ("--baseline", str(out / "rows.npz"), "--labels", str(out / "labels.txt"), "--label", "label")
    names = ("--name", options.kind, "--version", "1", "--models", str(out / "models"), "--overwrite")
    addnorm("adopt", str(out / "network.onnx"), *files, *names)
    usual, odd = np.array_split(task.rows[asked], 2)
    with served(out / "models" / options.kind / "1") as url:
        tell(url, options.kind, "as they are", usual)
        tell(url, options.kind, "odd", task.odd(odd))
    return 0


def tell(url: str, model: str, kind: str, rows: Rows) -> None:
    """Asks for the classes of rows, and prints the verdict over all that was asked by now."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            sent = {"name": "x", "datatype": "FP32", "shape": list(batch.shape), "data": batch.ravel().tolist()}
            client.post(f"/v2/models/{model}/infer", json={"inputs": [sent]}).raise_for_status()
        stats = client.get("/norm-stats").raise_for_status().json()
    verdict, first = stats["verdict"], stats["layers"][0]
    print(f"{len(rows)} rows {kind}: {verdict['state'].replace('_', ' ')}. {verdict['sentence']}")
    for moved in first["shifted"][:1]:  # the verdict judges all features of a layer together
        print(
            f"in front of {first['name']}, feature {moved['feature']} moved most, by {moved['shift']:.2f} deviations; "
            "that is told, not judged: another mix of classes moves single features, too"
        )


if __name__ == "__main__":
    sys.exit(main())

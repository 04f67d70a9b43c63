"""The artifact that the serving benchmark serves: 4 layers, d_model 128, d_ff 512, made by the project's own commands.

One epoch, without teachers: speed does not depend on the weights, and the labels need only be the same everywhere.
clinc150's training texts give 5,314 of the 8,000 word pieces asked for: pairs that occur once are not merged.
"""

import json
import random
import shutil
import sys
from pathlib import Path

from benchmarks.servers import WORK
from export.exporter import export_run
from model.data import load_dataset
from model.recipe import Recipe
from model.training import train
from runtime.artifact import read_artifact
from runtime.errors import ArtifactError

RECIPE = Recipe(num_layers=4, d_model=128, num_heads=4, d_ff=512, vocab_size=8000, epochs=1, linear_teacher=False)


def serving_artifact(data: Path, work: Path = WORK) -> Path:
    """The artifact below `work`, trained and exported on first use (a minute)."""
    models, run = work / "models", work / "run"
    path = models / "serving" / "1"
    try:
        read_artifact(path)
    except ArtifactError:  # there is none, or one of another version
        shutil.rmtree(run, ignore_errors=True)
        train(load_dataset("clinc150", data), RECIPE, run)
        export_run(run, models, "serving", "1", data, overwrite=True)
    return path


def shuffled_texts(data: Path) -> list[str]:
    """The test questions of clinc150, 1 to 25 words long, in one random order."""
    texts = [str(text) for text in load_dataset("clinc150", data).test.inputs]
    random.Random(0).shuffle(texts)
    return texts


def main(data: Path, bodies: Path) -> None:
    """Makes the artifact, and writes a request body a line for its texts."""
    serving_artifact(data)
    bodies.write_text("".join(json.dumps({"inputs": [text]}) + "\n" for text in shuffled_texts(data)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

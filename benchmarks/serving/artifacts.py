"""The artifact that the serving benchmark serves: 4 layers, d_model 128, d_ff 512, made by the project's own commands.

One epoch, without teachers: speed does not depend on the weights, and the labels need only be the same everywhere.
clinc150's training texts give 5,314 of the 8,000 word pieces asked for: pairs that occur once are not merged.
"""

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

from benchmarks.serving.servers import ROOT, WORK
from export.exporter import export_run
from export.precision.choice import Asked
from model.data import load_dataset
from model.training.recipe import Recipe
from model.training.run import train
from runtime.errors import DataError
from runtime.precision import PrecisionKind

RECIPE = Recipe(num_layers=4, d_model=128, num_heads=4, d_ff=512, vocab_size=8000, epochs=1, linear_teacher=False)


def serving_artifact(data: Path, precision: PrecisionKind = "fp32", work: Path = WORK) -> Path:
    """The artifact below `work`, made on first use (a minute) and whenever the code that makes it has changed.

    Raises:
        ExportError: this precision costs too much accuracy.
    """
    models, run, name = work / "models", work / "run", f"serving-{precision}"
    made_by = models / f"{name}.sources"
    if not made_by.exists() or made_by.read_text() != sources():
        dataset = load_dataset("clinc150", data)
        try:
            train(dataset, RECIPE, run)
        except DataError:  # the run there is of other choices
            shutil.rmtree(run)
            train(dataset, RECIPE, run)
        export_run(run, models, name, "1", data, overwrite=True, asked=Asked(precision))
        made_by.write_text(sources())
    return models / name / "1"


def sources() -> str:
    """A digest of the code that trains, exports and reads artifacts."""
    files = sorted(path for folder in ("export", "model", "runtime") for path in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


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

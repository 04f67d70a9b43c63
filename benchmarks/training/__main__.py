"""`python -m benchmarks.training`: test accuracy of small files, from scratch and from a pretrained encoder.

Each line is one run: the encoder's accuracy on the data set's own test rows, beside that of the linear teacher, or of
a linear head on the frozen encoder. docs/training.md has the table.
"""

import json
import shutil
import time
from pathlib import Path

import torch
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp

from benchmarks.training.draws import SETS, small_file, whole
from model.data import Dataset
from model.training.recipe import FineTuning, Recipe
from model.training.run import make_encoder, train
from model.training.teachers import LinearTeacher
from model.training.trainer import evaluate
from runtime.console import PlainConsole
from runtime.options import option_config

ALL = 0  # rows: the whole data set


class Training(BaseSettings):
    """Trains on small files and prints test accuracies."""

    model_config = option_config("python -m benchmarks.training") | {"cli_shortcuts": {"pretrained": "from"}}

    data: Path = Path("data")
    """Folder of the data sets: banking77/, clinc150/, snips/."""
    sets: list[str] = list(SETS)
    """Data sets to draw from."""
    rows: list[int] = [300, 600, 1000, 5000]
    """Rows of a file; 0 for the whole data set."""
    draws: int = Field(3, ge=1)
    """Files of each size."""
    pretrained: Path | None = None
    """Directory of a pretrained encoder; without it, encoders are trained from scratch."""
    recipe: str = "{}"
    """What is other than the defaults, as JSON."""
    work: Path = Path(".bench/training")
    """Folder of the runs."""
    threads: int = 1
    """CPU threads."""
    out: Path | None = None
    """File that a line of JSON is added to for each run."""

    def cli_cmd(self) -> None:
        torch.set_num_threads(self.threads)
        for name in self.sets:
            for rows in self.rows:
                for seed in range(self.draws if rows else 1):
                    dataset = small_file(name, self.data, rows, seed) if rows else whole(name, self.data)
                    found = {"set": name, "rows": rows, "seed": seed} | self.measure(dataset)
                    print(json.dumps(found), flush=True)
                    if self.out is not None:
                        with self.out.open("a") as file:
                            file.write(json.dumps(found) + "\n")

    def measure(self, dataset: Dataset) -> dict[str, float]:
        directory, started = self.work / dataset.name, time.perf_counter()
        shutil.rmtree(directory, ignore_errors=True)
        try:
            found = self.from_scratch(dataset, directory) if self.pretrained is None else self.tuned(dataset, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return found | {"seconds": round(time.perf_counter() - started, 1)}

    def from_scratch(self, dataset: Dataset, directory: Path) -> dict[str, float]:
        recipe = Recipe(**json.loads(self.recipe))
        run = train(dataset, recipe, directory, console=PlainConsole(quiet=True))
        inputs = make_encoder(dataset, run.tokenizer, recipe.max_tokens)
        teacher = LinearTeacher([str(text) for text in dataset.train.inputs], dataset.train.labels, recipe.seed)
        answers = teacher.scores([str(text).lower() for text in dataset.test.inputs]).argmax(1)
        return {
            "validation": float(run.facts["validation_accuracy"]),
            "test": evaluate(run.model, dataset.test, inputs)[1],
            "teacher": float((answers == dataset.test.labels).mean()),
        }

    def tuned(self, dataset: Dataset, directory: Path) -> dict[str, float]:
        from model.finetuning.checkpoint import input_encoder
        from model.finetuning.run import fine_tune

        assert self.pretrained is not None
        recipe, found = FineTuning(**json.loads(self.recipe)), dict[str, float]()
        for name, chosen in (("head", recipe.model_copy(update={"head_only": True})), ("all", recipe)):
            if recipe.head_only and name == "all":
                break
            started = time.perf_counter()
            run = fine_tune(dataset, chosen, self.pretrained, directory / name, console=PlainConsole(quiet=True))
            inputs, pooling = input_encoder(run.source), run.source.pooling
            found |= {
                f"{name}_validation": float(run.facts["validation_accuracy"]),
                f"{name}_test": evaluate(run.model, dataset.test, inputs, pooling)[1],
                f"{name}_seconds": round(time.perf_counter() - started, 1),
            }
        return found


if __name__ == "__main__":
    CliApp.run(Training)

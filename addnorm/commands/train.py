"""`addnorm train`."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from model.training.recipe import Recipe
from runtime.options import option_config


class Train(Recipe, BaseSettings):
    """Trains an encoder on clinc150, digits, or a CSV or JSONL file; repeated, it resumes what was stopped."""

    model_config = option_config("addnorm train")

    dataset: CliPositionalArg[str]
    """clinc150, digits, or the path of a CSV or JSONL file."""
    out: Path
    """Run directory to write, for example runs/intents."""
    data: Path = Path("data")
    """Folder of downloaded data sets."""
    text: str = "text"
    """Column of the file that holds the text."""
    label: str = "label"
    """Column of the file that holds the class."""
    teachers: list[Path] = []
    """Runs whose averaged answers are learned instead of the labels."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 for one per core."""

    def cli_cmd(self) -> None:
        import torch

        from model.data import load_dataset
        from model.training.run import train
        from model.training.trainer import Interrupted

        torch.set_num_threads(self.threads or os.cpu_count() or 1)
        dataset = load_dataset(self.dataset, self.data, self.text, self.label)
        recipe = Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})
        try:
            train(dataset, recipe, self.out, teachers=self.teachers, columns=(self.text, self.label))
        except Interrupted:
            print(f"Stopped and saved: the same command goes on with {self.out}.")
            raise KeyboardInterrupt from None

"""`addnorm train`."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from addnorm.commands.stopping import stopped_by_signals
from model.training.recipe import FineTuning, Recipe
from runtime.errors import DataError, SettingError
from runtime.options import TrainingDevice, option_config

if TYPE_CHECKING:  # what reads data and trains is loaded only where the command runs
    import torch

    from model.data import Dataset

# options of both kinds of training
OWN = ("dataset", "out", "pretrained", "data", "text", "label", "threads", "device", "record_norms")


class Train(Recipe, FineTuning, BaseSettings):
    """Trains an encoder on clinc150, digits, or a CSV or JSONL file; repeated, it resumes what was stopped."""

    model_config = option_config("addnorm train") | {"cli_shortcuts": {"pretrained": "from"}}

    dataset: CliPositionalArg[str]
    """clinc150, digits, or the path of a CSV or JSONL file."""
    out: Path
    """Run directory to write, for example runs/intents."""
    pretrained: Path | None = None
    """Directory of a pretrained encoder that goes on learning, with a new head: Hugging Face's or
    sentence-transformers', as `addnorm adopt` takes it. The defaults are others then (docs/training.md)."""
    data: Path = Path("data")
    """Folder of downloaded data sets."""
    text: str = "text"
    """Column of the file that holds the text."""
    label: str = "label"
    """Column of the file that holds the class."""
    max_tokens: int = Field(48, ge=1)  # how many there may be, the kind of training says
    """Longest sequence, 512 at most; longer ones are truncated. With --from: 128, and as many as the encoder reads."""
    teachers: list[Path] = []
    """Runs whose averaged answers are learned instead of the labels."""
    record_norms: bool = False
    """Keep what every norm sees during training, with gradients and the size of the steps: norm_record.png."""
    device: TrainingDevice = "auto"
    """auto, cpu or cuda; auto: CUDA where torch finds a GPU, else the CPU. A run may go on with another."""
    threads: int = Field(0, ge=0, le=1024)
    """CPU threads; 0 is as many as torch takes by itself, at most one per CPU that this may use."""

    @stopped_by_signals()
    def cli_cmd(self) -> None:
        import torch

        from model.data import load_dataset
        from model.training.device import choose_device, describe_device, set_threads
        from model.training.trainer import Interrupted

        set_threads(self.threads)
        chosen, device = self.choices(), choose_device(self.device)
        dataset = load_dataset(self.dataset, self.data, self.text, self.label)
        try:
            self.train(dataset, chosen, device)
        except torch.OutOfMemoryError:
            raise SettingError(
                f"The memory of {describe_device(device)} is too small: pass a smaller --batch-size, or --device cpu; "
                f"the same command goes on with {self.out}."
            ) from None
        except Interrupted:
            print(f"Stopped and saved: the same command goes on with {self.out}.")
            raise KeyboardInterrupt from None

    def choices(self) -> Recipe | FineTuning:
        """The recipe of what was asked for, with the defaults of its kind.

        Raises:
            DataError: an option of the other kind was given.
        """
        kind = Recipe if self.pretrained is None else FineTuning
        given = {name: getattr(self, name) for name in self.model_fields_set if name not in OWN}
        for name in given:
            option = "--" + name.replace("_", "-")
            if name not in kind.model_fields and self.pretrained is not None:
                raise DataError(f"{option} is for encoders that are trained from scratch: leave it out with --from.")
            if name not in kind.model_fields and name != "teachers":
                raise DataError(f"{option} is for pretrained encoders: name one with --from, or leave it out.")
        return kind(**{name: value for name, value in given.items() if name != "teachers"})

    def train(self, dataset: "Dataset", chosen: Recipe | FineTuning, device: "torch.device") -> None:
        columns = (self.text, self.label)
        if self.record_norms and self.pretrained is not None:
            raise DataError("--record-norms is for encoders that are trained from scratch: leave it out with --from.")
        if isinstance(chosen, Recipe):
            from model.training.run import train

            train(
                dataset,
                chosen,
                self.out,
                teachers=self.teachers,
                columns=columns,
                record_norms=self.record_norms,
                device=device,
            )
        elif self.pretrained is not None:
            from model.finetuning.run import fine_tune

            fine_tune(dataset, chosen, self.pretrained, self.out, columns=columns, device=device)

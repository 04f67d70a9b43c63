"""`addnorm adopt`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from addnorm.commands.export import tell_plan
from runtime.manifest import PoolingKind
from runtime.options import option_config

ADVICE = {
    "none": "{texts} texts are too few for a verdict on drift: adopt with 300 or more; 1,500 show new topics too",
    "little": "{texts} texts are enough to notice broken text; 1,500 or more show new topics too",
}


class Adopt(BaseSettings):
    """Adopts anybody's text encoder as a verified ONNX artifact: MODELS/NAME/VERSION."""

    model_config = option_config("addnorm adopt")

    directory: CliPositionalArg[Path]
    """Hugging Face or sentence-transformers directory, with config.json, safetensors and tokenizer.json."""
    baseline: Path
    """Texts like those that will be asked: a .txt file with one in a line, or .csv, .jsonl, .parquet."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the model; letters, digits, dots, dashes and underscores."""
    version: int = Field(ge=1)
    """Version of the model."""
    models: Path = Path("models")
    """Model repository to write to."""
    text: str | None = None
    """Column of the text, in a file with columns; `text` where it is not given."""
    text_pair: str | None = None
    """Column of the second text, for a model that reads pairs of texts."""
    label: str | None = None
    """Column of the label, for a classifier: its accuracy is measured."""
    pooling: PoolingKind | None = None
    """mean, cls, last, weighted or max: of an embedding model whose directory does not say it."""
    overwrite: bool = False
    """Replace an artifact of this name and version."""

    def cli_cmd(self) -> None:
        from export.adopt.adopter import adopt_directory
        from export.adopt.texts import read_texts

        console = Console()
        texts = read_texts(self.baseline, self.text, self.text_pair, self.label)
        target = self.models / self.name / str(self.version)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"adopting {self.directory}", total=len(texts.inputs))

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total, description="measuring the baseline")

            adopted = adopt_directory(self.directory, texts, target, self.pooling, self.overwrite, progress)
        manifest = adopted.artifact.manifest
        size = sum(len(content) for content in adopted.artifact.files.values()) / 1e6
        parameters = manifest.training["parameters"]
        lines = [
            f"{adopted.artifact.path}: {manifest.task}, {size:.2f} MB, {parameters:,} parameters, "
            f"{len(manifest.layers)} normalization layers observed",
            *(f"not observed: {layer.name}: {layer.reason}" for layer in manifest.unobserved),
            *(f"verified: {kind} within {error:.1e} of PyTorch" for kind, error in adopted.errors.items()),
        ]
        if adopted.accuracy is not None:
            lines.append(f"accuracy on the texts: {adopted.accuracy:.4f}")
        if manifest.task != "classification" and len(texts.inputs) < 1500:
            lines.append(ADVICE["none" if len(texts.inputs) < 300 else "little"].format(texts=len(texts.inputs)))
        for line in (*lines, *tell_plan(manifest.plan)):
            console.print(line, highlight=False)

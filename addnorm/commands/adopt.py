"""`addnorm adopt`."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from addnorm.commands.export import tell_plan, tell_speed, tell_trials, tell_verdict
from runtime.console import PlainConsole, described
from runtime.errors import ExportError
from runtime.manifest import NO_DEEP, Activation, PoolingKind
from runtime.options import option_config
from runtime.precision import Precision, PrecisionChoice

if TYPE_CHECKING:  # what reads and runs models is loaded only where the command runs
    from export.adopt.texts import Texts
    from export.adopt.writing import Adopted
    from export.precision.choice import Asked

TEXT_OPTIONS, TENSOR_OPTIONS = ("text", "text_pair", "pooling", "min_cosine"), ("labels", "output", "activation")
FILE_OPTIONS = ("tokenizer", "labels", "output", "activation", "max_tokens", "normalize")
ADVICE = {
    "none": "{count} {kind} are too few for a verdict on drift: adopt with 300 or more; 1,500 show new topics too",
    "little": "{count} {kind} are enough to notice broken text; 1,500 or more show new topics too",
}


class Adopt(BaseSettings):
    """Adopts anybody's text encoder, or a network that reads tensors, as a verified artifact: MODELS/NAME/VERSION."""

    model_config = option_config("addnorm adopt")

    source: CliPositionalArg[Path]
    """Hugging Face or sentence-transformers directory, with config.json, safetensors and tokenizer.json; or an ONNX
    file, for which torch is not needed."""
    baseline: Path
    """Texts like those that will be asked: a .txt file with one in a line, or .csv, .jsonl, .parquet. For
    --inputs float rows: an .npz file with an array for each input, or a table of numbers."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)
    """Name of the model; letters, digits, dots, dashes and underscores, 255 at most."""
    version: int = Field(ge=1, le=2**63 - 1)
    """Version of the model."""
    models: Path = Path("models")
    """Model repository to write to."""
    inputs: Literal["text", "float"] | None = None
    """What an ONNX file reads: texts as token ids, or tensors of numbers (images, tables, time series). float where the
    baseline is an .npz file."""
    text: str | None = None
    """Column of the text, in a file with columns; `text` where it is not given."""
    text_pair: str | None = None
    """Column of the second text, for a model that reads pairs of texts."""
    label: str | None = None
    """Column, or array of an .npz file, of the label, for a classifier: its accuracy is measured."""
    pooling: PoolingKind | None = None
    """mean, cls, last, weighted or max: of an embedding model that does not say it itself."""
    tokenizer: Path | None = None
    """tokenizer.json of an ONNX file; else the one beside it or in the folder above it."""
    labels: Path | None = None
    """A file with the name of a class in a line, for an ONNX file that classifies."""
    output: str | None = None
    """Which output of an ONNX file is served, where its name does not tell."""
    activation: Activation | None = None
    """softmax or sigmoid: of an ONNX file that classifies; sigmoid if a text may have several labels. Of one that
    reranks, sigmoid or identity: the score is the logit."""
    max_tokens: int | None = Field(None, ge=2)
    """Tokens of a text from which on it is cut, for an ONNX file that does not say it."""
    normalize: bool | None = None
    """Whether the embeddings of an ONNX file are divided by their length; true where modules.json does not say it."""
    folded: bool = False
    """Observe what Conv and Gemm give, where a BatchNorm was folded into them; for --inputs float."""
    precision: PrecisionChoice = "fp32"
    """fp32, int8 or bf16 (for the CPU), fp16 (for a GPU), of a directory; of an ONNX file in fp32, bf16 alone. Refused
    where answers change too much. auto takes the fastest on this CPU that holds --min-cosine."""
    min_cosine: float | None = Field(None, gt=0, le=1)
    """Least cosine between the vectors of a lower precision and those of fp32, on average. For auto 0.999, for others
    by precision, where it is not given."""
    overwrite: bool = False
    """Replace an artifact of this name and version."""

    def cli_cmd(self) -> None:
        console = PlainConsole()
        columns = (described(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"adopting {self.source}", total=None)

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total, description="measuring the baseline")

            adopted, count = self.adopt(progress)
        for line in (*tell(adopted, count), *tell_plan(adopted.artifact.manifest.plan), tell_verdict(adopted.artifact)):
            console.print(line)

    def adopt(self, progress: Callable[[int, int], None]) -> tuple["Adopted", int]:
        """What was adopted, and how many texts or rows the baseline has."""
        target = self.models / self.name / str(self.version)
        given = {name: value for name in FILE_OPTIONS if (value := getattr(self, name)) is not None}
        if self.inputs == "float" or (self.inputs is None and self.baseline.suffix.lower() == ".npz"):
            found = self.adopt_tensors(target, given, progress)
            return found, found.artifact.manifest.training["texts"]
        if self.folded:
            raise ExportError("--folded is for networks that read tensors: leave it out, or pass --inputs float.")
        from export.adopt.texts import read_texts

        texts = read_texts(self.baseline, self.text, self.text_pair, self.label)
        return self.adopt_texts(texts, target, given, progress), len(texts.inputs)

    def adopt_texts(
        self, texts: "Texts", target: Path, given: dict[str, Any], progress: Callable[[int, int], None]
    ) -> "Adopted":
        if self.source.suffix.lower() == ".onnx":
            from export.adopt.onnx_file.adopter import adopt_file
            from export.adopt.onnx_file.source import Hints

            self.refuse_precision("fp32", "bf16", "auto")
            hints = Hints(pooling=self.pooling, **given)
            return adopt_file(self.source, texts, target, hints, self.overwrite, progress, self.asked)
        if given or self.inputs:
            option = "inputs" if self.inputs else next(iter(given)).replace("_", "-")
            raise ExportError(f"--{option} is for ONNX files, a directory says it itself: leave it out.")
        if find_spec("transformers") is None:
            raise ExportError(
                "Adopting a directory needs the train extra: install requirements/train.txt, or run `make install`; "
                "an ONNX file can be adopted without."
            )
        from export.adopt.directory.adopter import adopt_directory
        from model.training.device import set_threads

        set_threads()
        return adopt_directory(self.source, texts, target, self.pooling, self.overwrite, progress, self.asked)

    def adopt_tensors(self, target: Path, given: dict[str, Any], progress: Callable[[int, int], None]) -> "Adopted":
        from export.adopt.tensors.adopter import adopt_tensors
        from export.adopt.tensors.answer import TensorHints

        if self.source.suffix.lower() != ".onnx":
            raise ExportError(f"{self.source} is no ONNX file, and only such a file can read tensors: export one.")
        named = {name: getattr(self, name) for name in TEXT_OPTIONS} | given
        if odd := [name for name, value in named.items() if value is not None and name not in TENSOR_OPTIONS]:
            raise ExportError(f"--{odd[0].replace('_', '-')} is for texts, this network reads tensors: leave it out.")
        self.refuse_precision("fp32")
        hints = TensorHints(label=self.label, folded=self.folded, **given)
        return adopt_tensors(self.source, self.baseline, target, hints, self.overwrite, progress)

    @property
    def asked(self) -> "Asked":
        from export.precision.choice import Asked

        if self.min_cosine is not None and self.precision == "fp32":
            raise ExportError("--min-cosine is for a lower precision: pass --precision, too, or leave it out.")
        return Asked(self.precision, self.min_cosine)

    def refuse_precision(self, *possible: PrecisionChoice) -> None:
        if self.precision not in possible:
            raise ExportError(
                f"--precision {self.precision} is for directories, an ONNX file keeps the precision that it has: "
                f"expected {' or '.join(possible)}."
            )


def tell(adopted: "Adopted", count: int) -> list[str]:
    """What came of it, for a person."""
    manifest = adopted.artifact.manifest
    kind = "rows" if manifest.inputs.kind == "tensors" else "texts"
    size = sum(len(content) for content in adopted.artifact.files.values()) / 1e6
    lines = [
        f"{adopted.artifact.path}: {manifest.task}, {size:.2f} MB, {manifest.training['parameters']:,} parameters, "
        f"{len(manifest.layers)} normalization layers observed",
        *(f"not observed: {layer.name}: {layer.reason}" for layer in manifest.unobserved),
        *(f"verified: {kind} within {error:.1e} of what was adopted" for kind, error in adopted.errors.items()),
    ]
    if NO_DEEP in manifest.training:
        lines.append(f"no deep statistics: {manifest.training[NO_DEEP]}")
    lines += tell_precision(manifest.precision) + tell_trials(manifest.training)
    if adopted.accuracy is not None:
        lines.append(f"accuracy on the {kind}: {adopted.accuracy:.4f}")
    if manifest.task != "classification" and count < 1500:
        lines.append(ADVICE["none" if count < 300 else "little"].format(count=count, kind=kind))
    return lines


def tell_precision(measured: Precision | None) -> list[str]:
    """What lower precision costs and saves; an ONNX file of lower precision has nothing to be compared with."""
    if measured is None or measured.mean_cosine is None:
        return []
    size = ", ".join(f"{name} {value / 1e6:.2f} MB" for name, value in measured.size.items())
    same = "" if measured.agreement is None else f"; same label for {measured.agreement:.2%} of the texts"
    same += "" if measured.recall is None else f"; recall@10 {measured.recall:.4f}"
    return [
        f"graph: {size}; {measured.kind} / fp32 speed on this CPU: {tell_speed(measured.speed)}",
        f"cosine to fp32: {measured.mean_cosine:.5f} on average, {measured.worst_cosine:.5f} at worst{same}",
        f"statistics: a layer's mean moved by at most {measured.mean_deviation:.4f} of its sigma, its variance by "
        f"{measured.variance_deviation:.2%}",
    ]

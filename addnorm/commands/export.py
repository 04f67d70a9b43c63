"""`addnorm export`."""

from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.text import Text

from runtime.artifact import Artifact
from runtime.console import PlainConsole
from runtime.drift.baseline import read_baseline
from runtime.errors import ExportError
from runtime.options import option_config
from runtime.precision import TRIALS, Plan, Precision, PrecisionChoice

WINDOWS = (50, 200, 1000)  # requests


class Export(BaseSettings):
    """Exports a run as a verified ONNX artifact: MODELS/NAME/VERSION."""

    model_config = option_config("addnorm export")

    run: CliPositionalArg[Path]
    """Run directory that `addnorm train` wrote."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)
    """Name of the model; letters, digits, dots, dashes and underscores, 255 at most."""
    version: int = Field(ge=1, le=2**63 - 1)
    """Version of the model."""
    models: Path = Path("models")
    """Model repository to write to."""
    data: Path = Path("data")
    """Folder of downloaded data sets."""
    overwrite: bool = False
    """Replace an artifact of this name and version."""
    precision: PrecisionChoice = "fp32"
    """fp32, int8 or bf16 (for the CPU), fp16 (for a GPU); refused where it costs more than 0.3 points of accuracy. auto
    takes the fastest on this CPU."""
    min_cosine: float | None = Field(None, gt=0, le=1)
    """Least cosine between the vectors of a lower precision and those of fp32, on average; where it is not given, what
    was trained from scratch is judged by its accuracy alone."""

    def cli_cmd(self) -> None:
        from export.exporter import export_run
        from export.precision.choice import Asked
        from model.training.device import set_threads

        if self.min_cosine is not None and self.precision == "fp32":
            raise ExportError("--min-cosine is for a lower precision: pass --precision, too, or leave it out.")
        asked = Asked(self.precision, self.min_cosine)
        set_threads()
        console = PlainConsole()
        with console.status(Text(f"exporting {self.run}")):
            artifact, errors = export_run(
                self.run, self.models, self.name, str(self.version), self.data, self.overwrite, asked
            )
        facts = artifact.manifest.training
        size = sum(len(content) for content in artifact.files.values()) / 1e6
        console.print(f"{artifact.path}: {size:.2f} MB, {facts['parameters']:,} parameters")
        console.print(tell_accuracy(facts))
        for kind, error in errors.items():
            console.print(f"verified: {kind} within {error:.1e} of PyTorch")
        manifest = artifact.manifest
        lines = tell_precision(manifest.precision), tell_trials(manifest.training), tell_plan(manifest.plan)
        for line in (*chain(*lines), tell_verdict(artifact)):
            console.print(line)


def tell_accuracy(facts: dict[str, Any]) -> str:
    """The accuracies; that of the test where some of its rows are held out."""
    test = "" if facts["test_accuracy"] is None else f", test {facts['test_accuracy']:.4f}"
    return f"accuracy: validation {facts['validation_accuracy']:.4f}{test}"


def tell_verdict(artifact: Artifact) -> str:
    """What the verdict on live traffic will be able to see."""
    baseline = read_baseline(artifact)
    reference, requests = baseline.reference, baseline.state.requests
    if reference is None:
        from export.adopt.clusters import FEWEST

        least = "60, and 4 of every class" if artifact.manifest.task == "classification" else str(FEWEST)
        return f"verdict: none, {requests:,} held-out requests are too few to judge by; it takes {least}"
    shares = [(share, count) for count in WINDOWS if (share := reference.would_show(count)) is not None]
    shows = ", ".join(
        f"{100 * share:.0f} %{'' if place else ' unlike requests'} among {count:,}"
        for place, (share, count) in enumerate(shares)
    )
    return f"verdict: {requests:,} held-out requests as baseline" + (f"; it notices {shows}" if shows else "")


def tell_precision(measured: Precision | None) -> list[str]:
    """What lower precision costs and saves, for a person."""
    if measured is None:
        return []
    accuracy = ", ".join(f"{name} {value:.4f}" for name, value in measured.accuracy.items())
    size = ", ".join(f"{name} {value / 1e6:.2f} MB" for name, value in measured.size.items())
    mean, variance = measured.mean_deviation, measured.variance_deviation
    return [
        f"validation accuracy: {accuracy}; graph: {size}",
        f"{measured.kind} / fp32 speed on this CPU: {tell_speed(measured.speed)}",
        f"statistics: a layer's mean moved by at most {mean:.4f} of its sigma, its variance by {variance:.2%}",
    ]


def tell_trials(training: dict[str, Any]) -> list[str]:
    """What each precision gives on this processor, a line each."""
    lines = []
    for kind, found in training.get(TRIALS, {}).items():
        if "refused" in found:
            lines.append(f"{kind}: not taken: {found['refused']}")
            continue
        speed = ", ".join(f"{batch} {value:.2f}" for batch, value in found["speed"].items())
        rest = ", ".join(f"{name.replace('_', ' ')} {value:.5f}" for name, value in found.items() if name != "speed")
        lines.append(f"{kind}: {speed} of fp32's speed; {rest}")
    return lines


def tell_plan(measured: Plan | None) -> list[str]:
    if measured is None:
        return []
    speed = tell_speed(measured.speed[measured.name])
    return [f"graph plan on onnxruntime {measured.onnxruntime}: {measured.name}; / default speed: {speed}"]


def tell_speed(speed: dict[str, float]) -> str:
    return ", ".join(f"{batch} {value:.2f}" for batch, value in speed.items())

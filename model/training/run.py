"""`addnorm train`: from a data set to a run directory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from model.data import Dataset, Split
from model.data.tokenizer import train_tokenizer
from model.network.config import Architecture, EncoderConfig
from model.network.encoder import Encoder, count_parameters
from model.training.checkpoint import TOKENIZER, Run, RunInfo, load_run, load_tokenizer
from model.training.device import CPU, describe_device
from model.training.directory import is_begun_with, open_directory
from model.training.examples import make_examples
from model.training.norm_record import NormRecord
from model.training.recipe import SMALL, Recipe
from model.training.report import Report
from model.training.teachers import EncoderTeacher, LinearTeacher, Teacher
from model.training.trainer import Trainer, evaluate
from runtime.console import PlainConsole
from runtime.graph.inputs import FeatureEncoder, InputEncoder
from runtime.graph.texts import TextEncoder

FAR_BELOW = 0.01  # accuracy
NAMED, LONGEST = 3, 30  # classes by their names at the start, of so many characters


def train(
    dataset: Dataset,
    recipe: Recipe,
    directory: Path,
    *,
    teachers: Sequence[Path] = (),
    columns: tuple[str, str] = ("text", "label"),
    record_norms: bool = False,
    device: torch.device = CPU,
    console: PlainConsole | None = None,
) -> Run:
    """Trains an encoder, or goes on with a run that was stopped, and returns the best weights by validation.

    Args:
        directory: the run's; a finished or half-finished run of the same recipe there is continued.
        teachers: run directories whose averaged answers are learned instead of the labels.
        columns: names of the text and label columns, kept so that export can read the data again.
        record_norms: whether to keep what every norm sees on the way, and to draw it.
        device: where it trains, and where the returned model is; a run may go on with another.

    Raises:
        DataError: the directory holds another run, or a teacher knows other classes.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    console = console or PlainConsole()
    if dataset.is_text and not is_begun_with(directory, recipe):
        recipe = recipe.for_rows(len(dataset.train))
    tokenizer = prepare_tokenizer(dataset, recipe, directory)
    encoder = make_encoder(dataset, tokenizer, recipe.max_tokens)
    info = RunInfo(
        **data_facts(dataset, columns),
        recipe=recipe,
        encoder=encoder_config(recipe, dataset, tokenizer),
        teachers=[str(teacher) for teacher in teachers],
    )
    open_directory(directory, info, tokenizer)
    torch.manual_seed(recipe.seed)
    model, taught_by = Encoder(info.encoder), make_teachers(dataset, recipe, teachers, device)
    examples = make_examples(dataset.train, recipe, encoder, len(dataset.labels), taught_by)
    say = partial(console.print, soft_wrap=True)
    say(begun(directory, model, dataset, device))
    rows = len(dataset.train)
    trainer = Trainer(model, recipe, examples, rows, dataset.validation, encoder, directory, device=device)
    run_trainer(trainer, NormRecord(model, directory, trainer.total_steps) if record_norms else None, console)
    run = load_run(directory)
    run.model.to(device)
    for line in result(run, dataset, encoder, taught_by, trainer.total_steps):
        say(f"{directory}: {line}")
    return run


def begun(directory: Path, model: nn.Module, dataset: Dataset, device: torch.device) -> str:
    """The first line of a run: what is trained, and where; the names of classes show a column that is not theirs."""
    some = ", ".join(name if len(name) <= LONGEST else name[:LONGEST] + "..." for name in dataset.labels[:NAMED])
    return (
        f"{directory}: {count_parameters(model):,} parameters, {len(dataset.labels):,} classes ({some}"
        f"{', ...' if len(dataset.labels) > NAMED else ''}), {len(dataset.train):,} training examples, "
        f"on {describe_device(device)}"
    )


def run_trainer(trainer: Trainer, record: NormRecord | None, console: PlainConsole) -> None:
    """Trains to the end; what was recorded of the norms is drawn, however it ends."""
    trainer.record = record
    try:
        with Report(trainer.directory, trainer.directory.name, console) as report:
            trainer.run(report)
    finally:
        if record is not None:
            record.draw()


def result(run: Run, dataset: Dataset, encoder: InputEncoder, teachers: Sequence[Teacher], steps: int) -> list[str]:
    """What came of a run of so many steps, by its best weights."""
    split = dataset.test if len(dataset.test) else dataset.validation
    _, accuracy = evaluate(run.model, split, encoder)
    best = f"best validation accuracy {run.facts['validation_accuracy']:.4f}"
    if len(dataset.test):
        best += f", test {accuracy:.4f}"
    few = few_steps(run.info.recipe, steps)
    return [best, *beside_teacher(accuracy, teachers, split, len(dataset.train), few)]


def few_steps(recipe: Recipe, steps: int) -> str:
    """What to do first where a run had fewer steps than it has by default; empty where it had as many."""
    if steps >= Recipe.model_fields["least_steps"].default:
        return ""
    option = "--least-steps" if recipe.least_steps else "--epochs"
    return f"it had only {steps:,} steps: train without {option} first"


def beside_teacher(accuracy: float, teachers: Sequence[Teacher], split: Split, rows: int, few: str = "") -> list[str]:
    """What the linear teacher reaches on the same data, and what helps where the encoder is far below it, or where
    there are so few rows for training that it may be so without being seen.

    Args:
        few: what `few_steps` says.
    """
    linear = next((teacher for teacher in teachers if isinstance(teacher, LinearTeacher)), None)
    if linear is None:
        return []
    answers = linear.scores([str(text).lower() for text in split.inputs]).argmax(1)
    taught = float((answers == split.labels).mean())
    lines = [f"its linear teacher: {taught:.4f}, on the same {len(split):,} rows"]
    if accuracy < taught - FAR_BELOW:
        helps = "more rows help, or an encoder that is trained already (--from DIRECTORY)"
        lines.append(f"the encoder is {100 * (taught - accuracy):.1f} points below its teacher: {few or helps}")
    elif rows < SMALL:
        lines.append(
            f"{rows:,} training rows are few: an encoder that is trained already answers better (--from DIRECTORY)"
        )
    return lines


def data_facts(dataset: Dataset, columns: tuple[str, str]) -> dict[str, Any]:
    """What a run notes of its data, by the fields of `DataInfo`."""
    return {
        "dataset": dataset.name,
        "data_sha256": dataset.sha256,
        "source": dataset.source,
        "labels": dataset.labels,
        "text_column": columns[0],
        "label_column": columns[1],
    }


def prepare_tokenizer(dataset: Dataset, recipe: Recipe, directory: Path) -> Tokenizer | None:
    """The run's tokenizer where it exists, else a new one; None for features."""
    if not dataset.is_text:
        return None
    if (directory / TOKENIZER).exists():
        return load_tokenizer(directory)
    return train_tokenizer([str(text) for text in dataset.train.inputs], recipe.vocab_size)


def make_encoder(dataset: Dataset, tokenizer: Tokenizer | None, max_tokens: int) -> InputEncoder:
    """The deterministic encoder, the same that serving uses."""
    if tokenizer is not None:
        return TextEncoder(tokenizer, max_tokens)
    return FeatureEncoder(np.shape(dataset.train.inputs[0])[-1], max_tokens)


def make_teachers(dataset: Dataset, recipe: Recipe, runs: Sequence[Path], device: torch.device = CPU) -> list[Teacher]:
    """The linear teacher, if the recipe asks for one, and the runs, averaged."""
    teachers: list[Teacher] = []
    if runs:
        teachers.append(EncoderTeacher([load_run(path) for path in runs], dataset.labels, device))
    if recipe.linear_teacher and dataset.is_text:
        texts = [str(text) for text in dataset.train.inputs]
        teachers.append(LinearTeacher(texts, dataset.train.labels, recipe.seed))
    return teachers


def encoder_config(recipe: Recipe, dataset: Dataset, tokenizer: Tokenizer | None) -> EncoderConfig:
    architecture = {name: getattr(recipe, name) for name in Architecture.model_fields}
    return EncoderConfig(
        **architecture,
        num_classes=len(dataset.labels),
        max_tokens=recipe.max_tokens,
        vocab_size=tokenizer.get_vocab_size() if tokenizer else 0,
        num_features=0 if tokenizer else dataset.train.inputs[0].shape[-1],  # type: ignore[union-attr]
    )

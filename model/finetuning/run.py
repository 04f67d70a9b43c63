"""`addnorm train --from`: from a pretrained encoder and a data set to a run directory."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from model.data import Dataset
from model.finetuning.checkpoint import (
    FineTunedEncoder,
    FineTunedInfo,
    FineTunedRun,
    PretrainedConfig,
    input_encoder,
    load_fine_tuned,
)
from model.finetuning.head import MEASURED, Fitted, embed_all, fit_head
from model.finetuning.movement import PICTURE, SMALLEST, Movement, measure, write
from model.pretrained.load import load_with_new_head
from model.pretrained.source import Source, read_encoder, said_pooling
from model.training.checkpoint import is_fine_tuned, load_info
from model.training.device import CPU, device_of
from model.training.directory import make_directory, open_directory
from model.training.examples import EncodedExamples
from model.training.recipe import FineTuning
from model.training.report import Report
from model.training.run import begun, data_facts
from model.training.trainer import Trainer, evaluate
from runtime.console import PlainConsole
from runtime.errors import DataError, InvalidInput
from runtime.graph.inputs import InputEncoder
from runtime.manifest import PoolingKind

BEFORE = -1  # the epoch after which nothing but the head is fitted
SHOWN = 60  # characters of a text in a sentence
FEW = 300  # validation rows: with fewer, the best epoch by validation is a matter of chance


def fine_tune(
    dataset: Dataset,
    recipe: FineTuning,
    pretrained: Path,
    directory: Path,
    *,
    columns: tuple[str, str] = ("text", "label"),
    device: torch.device = CPU,
    console: PlainConsole | None = None,
) -> FineTunedRun:
    """Fits a new head on a pretrained encoder, trains both, and returns the best weights by validation.

    Args:
        pretrained: the encoder's directory, of any family that can be adopted.
        directory: the run's; a finished or half-finished run of the same recipe there is continued.
        columns: names of the text and label columns, kept so that export can read the data again.
        device: where it trains, and where the returned model is; a run may go on with another.

    Raises:
        DataError: the data are no texts, or the directory holds another run.
        ExportError: the encoder's directory cannot be used.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    if not dataset.is_text:
        raise DataError(f"{dataset.name} has no texts, which a pretrained encoder reads: leave --from out.")
    console = console or PlainConsole()
    say = partial(console.print, soft_wrap=True)
    poolings = possible_poolings(recipe, pretrained, directory)
    source = shortened(read_encoder(pretrained, dataset.labels, poolings[0]), recipe.max_tokens)
    model, encoder = FineTunedEncoder(load_with_new_head(source)).to(device), input_encoder(source)
    check_texts(dataset, encoder)
    if len(poolings) == 1:
        keep_info(dataset, recipe, pretrained, source, directory, columns)
    else:
        make_directory(directory)
    say(begun(directory, model, dataset, device))
    heads = {kind: fit_head(found, dataset) for kind, found in embed_all(model, dataset, encoder, poolings).items()}
    model.network.pooling = pooling = min(heads, key=lambda kind: heads[kind].loss)
    if len(poolings) > 1:
        keep_info(dataset, recipe, pretrained, replace(source, pooling=pooling), directory, columns)
        say(f"{directory}: {tell_poolings(pooling, heads)}")
    before = measure(model, dataset.validation, encoder)
    accuracy = train_model(model, heads[pooling].head, dataset, recipe, encoder, directory, console)
    run = load_fine_tuned(directory)
    run.model.to(device)
    tell(run, dataset, accuracy, directory, say)
    names = [layer.name for layer in model.network.norms]
    moved = write(directory, names, before, measure(run.model, dataset.validation, encoder))
    say(f"{directory}: {describe(moved)}; {directory / PICTURE} shows all")
    return run


def possible_poolings(recipe: FineTuning, pretrained: Path, directory: Path) -> tuple[PoolingKind, ...]:
    """The pooling that is asked for, that the directory of the encoder names, or that this run has chosen before; else
    those to choose from."""
    chosen = load_info(directory, FineTunedInfo).pretrained.pooling if is_fine_tuned(directory) else None
    known = recipe.pooling or said_pooling(pretrained) or chosen
    return (known,) if known else MEASURED


def check_texts(dataset: Dataset, encoder: InputEncoder) -> None:
    """Refuses a text that the tokenizer reads nothing of, before anything is written."""
    for split in (dataset.train, dataset.validation, dataset.test):
        if not len(split):
            continue
        try:
            encoder.encode(split.inputs)
        except InvalidInput as error:
            text = next(str(text) for text in split.inputs if not can_read(encoder, text))
            raise DataError(
                f"{dataset.name} has a text that the encoder's tokenizer finds nothing to read in, {text[:SHOWN]!a}: "
                "write at least one word, or remove the row."
            ) from error


def can_read(encoder: InputEncoder, text: object) -> bool:
    try:
        encoder.encode([text])
    except InvalidInput:
        return False
    return True


def keep_info(
    dataset: Dataset, recipe: FineTuning, pretrained: Path, source: Source, directory: Path, columns: tuple[str, str]
) -> None:
    """Makes the run's directory, or goes on with it."""
    config = PretrainedConfig.of(pretrained, source)
    info = FineTunedInfo(**data_facts(dataset, columns), recipe=recipe, pretrained=config)
    open_directory(directory, info, source.tokenizer)


def tell_poolings(chosen: PoolingKind, heads: Mapping[PoolingKind, Fitted]) -> str:
    """Which pooling was chosen, and by what."""
    losses = ", ".join(f"{kind} {fitted.loss:.4f} ({fitted.accuracy:.4f})" for kind, fitted in heads.items())
    return f"pooling {chosen}, by the validation loss (and accuracy) of a head alone: {losses}"


def shortened(source: Source, max_tokens: int) -> Source:
    return replace(source, max_tokens=min(source.max_tokens, max_tokens))


def train_model(
    model: FineTunedEncoder,
    head: nn.Linear,
    dataset: Dataset,
    recipe: FineTuning,
    encoder: InputEncoder,
    directory: Path,
    console: PlainConsole,
) -> float:
    """Leaves the best weights in `directory`; gives the validation accuracy of the head on the frozen encoder."""
    pooling, examples = model.network.pooling, EncodedExamples(dataset.train, recipe, encoder, len(dataset.labels))
    model.head.load_state_dict(head.state_dict())
    loss, accuracy = evaluate(model, dataset.validation, encoder, pooling)
    few = len(dataset.validation) < FEW and not recipe.head_only
    before = {name: value.clone() for name, value in model.state_dict().items()} if few else {}
    size, device = len(dataset.train), device_of(model)
    trainer = Trainer(model, recipe, examples, size, dataset.validation, encoder, directory, pooling, device)
    if not trainer.state_path.exists():
        trainer.keep_best(BEFORE, loss, accuracy)
    if not recipe.head_only:
        with Report(directory, directory.name, console) as report:
            trainer.run(report)
        if few:
            keep_halfway(trainer, before)
    return accuracy


def keep_halfway(trainer: Trainer, before: dict[str, Tensor]) -> None:
    """Keeps the mean of the weights before and after, unless it is worse than the best by a standard error or more.

    It answers better than either where rows are few (Wortsman et al. 2022, arXiv:2109.01903; docs/training.md).
    """
    best = trainer.best[0]
    error = math.sqrt(best * (1 - best) / len(trainer.validation))
    average = trainer.average.module
    after = {name: value.clone() for name, value in average.state_dict().items()}
    middle = {name: (value + before[name]) / 2 if value.is_floating_point() else value for name, value in after.items()}
    average.load_state_dict(middle)
    loss, accuracy = evaluate(average, trainer.validation, trainer.encoder, trainer.pooling)
    if accuracy >= best - error:
        trainer.best = (-math.inf, -math.inf)
        trainer.keep_best(trainer.recipe.epochs - 1, loss, accuracy)


def tell(run: FineTunedRun, dataset: Dataset, head_alone: float, directory: Path, say: Callable[[str], None]) -> None:
    """What came of it, beside what a linear head on the frozen encoder reaches."""
    best = f"validation accuracy {run.facts['validation_accuracy']:.4f} (the head alone: {head_alone:.4f})"
    if len(dataset.test):
        _, accuracy = evaluate(run.model, dataset.test, input_encoder(run.source), run.source.pooling)
        best += f", test {accuracy:.4f}"
    say(f"{directory}: {best}")


def describe(movements: list[Movement]) -> str:
    """The norm in front of which most has changed, in words."""
    farthest = max(movements, key=lambda movement: abs(movement.mean))
    widest = max(movements, key=lambda movement: abs(math.log(max(movement.variance, SMALLEST))))
    return (
        f"in front of {farthest.name} the token mean moved most ({farthest.mean:+.2f} standard deviations), "
        f"in front of {widest.name} the token variance (x {widest.variance:.2f})"
    )

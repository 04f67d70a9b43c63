"""What a directory of Hugging Face or sentence-transformers says about its encoder, read without torch.

Whatever cannot be honoured is refused: a setting that is passed over gives other vectors, and nobody notices.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from tokenizers import Tokenizer

from model.pretrained.families import Family, family_of
from model.pretrained.files import Settings, check_weights
from model.pretrained.modules import DenseLayer, Modules, read_modules
from model.pretrained.text_model import (
    TextModel,
    read_labels,
    read_pooling_name,
    read_prompts,
    read_relevance,
    read_sentence_settings,
    read_tokenizer,
    token_limits,
)
from runtime.errors import ExportError
from runtime.manifest import Activation, PoolingKind, Task

NOT_SERVED = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
CLASSIFIER_POOLINGS: dict[str, PoolingKind] = {"cls": "cls", "bos": "cls", "mean": "mean"}


@dataclass(frozen=True, slots=True)
class Source(TextModel):
    """A directory that can be adopted.

    Attributes:
        path: where config.json and the weights are.
        config: config.json.
        position_offset: the position of a text's first token.
    """

    path: Path
    config: dict[str, Any]
    model_type: str
    dense: list[DenseLayer]
    position_offset: int


def read_directory(path: Path, pooling: str | None = None) -> Source:
    """Reads a directory.

    Args:
        path: the directory.
        pooling: how an embedding is pooled, where modules.json does not say.

    Raises:
        ExportError: something is missing, wrong or not supported.
    """
    if not path.is_dir():
        raise ExportError(f"{path} is no directory: give the one that holds the model's config.json.")
    modules = read_modules(path)
    folder = modules.transformer
    config = Settings.read(folder / "config.json")
    family = read_family(config)
    task, labels, activation = read_task(config)
    if task != "embedding":
        modules = Modules(folder, None, [], False)  # a classifier's head takes the encoder's own output
    check_weights(folder)
    sentence = read_sentence_settings(folder)
    vocab_size = config.positive("vocab_size")
    tokenizer = read_tokenizer(folder / "tokenizer.json", vocab_size, sentence.get("do_lower_case", False))
    prompts, default_prompt = read_prompts(path)
    return Source(
        path=folder,
        config=config.content,
        model_type=config.get("model_type", ""),
        task=task,
        labels=labels,
        activation=activation,
        pooling=choose_pooling(path, config, family, task, modules.pooling, pooling),
        normalize=modules.normalize,
        strip=task == "rerank" or (path / "modules.json").exists(),
        dense=modules.dense,
        prompts=prompts,
        default_prompt=default_prompt,
        max_tokens=read_max_tokens(config, family, sentence),
        tokenizer=tokenizer,
        type_ids=types_matter(config, family, task, tokenizer),
        vocab_size=vocab_size,
        position_offset=family.first_position(config.content),
    )


def read_encoder(path: Path, labels: list[str], pooling: PoolingKind | None = None) -> Source:
    """A directory's encoder as what a classifier of these labels begins with.

    What makes an embedding of it is left out: linear layers and prompts.

    Args:
        pooling: where it is not what modules.json says, or the mean where nothing is said.

    Raises:
        ExportError: something is missing, wrong or not supported.
    """
    modules = modules_of(path)
    if path.is_dir() and read_task(Settings.read(modules.transformer / "config.json"))[0] != "embedding":
        raise ExportError(f"{path} has a head for another task: give the directory of an encoder without one.")
    source = read_directory(path, None if modules.pooling else pooling or "mean")
    source.check_room()
    return replace(
        source,
        task="classification",
        labels=labels,
        pooling=pooling or source.pooling,
        normalize=True,
        dense=[],
        prompts={},
        default_prompt=None,
    )


def said_pooling(path: Path) -> PoolingKind | None:
    """The pooling that modules.json of a directory names, if it does."""
    return modules_of(path).pooling


def modules_of(path: Path) -> Modules:
    return read_modules(path) if path.is_dir() else Modules(path, None, [], False)


def read_family(config: Settings) -> Family:
    if "auto_map" in config.content:
        raise ExportError(
            f"{config.file} has an auto_map: the model needs Python code of its authors, which is never run; "
            "export it to ONNX and adopt that file instead."
        )
    config.must_be("quantization_config", None, "quantized weights cannot be adopted, take those it was made from")
    config.get("pad_token_id", 0)  # refuses what is no number
    family = family_of(config.get("model_type", ""))
    for key, value in family.settings:
        config.must_be(key, value, f"only {value} can be adopted, export the model to ONNX and adopt that file instead")
    return family


def read_task(config: Settings) -> tuple[Task, list[str], Activation]:
    """Task, labels and activation, as the class that was saved says."""
    names = [str(name) for name in config.get("architectures", [""])]
    if refused := [name for name in names if name.endswith(NOT_SERVED)]:
        raise config.refusal("architectures", f"{refused[0]} answers something else than labels, embeddings and scores")
    if not any(name.endswith("ForSequenceClassification") for name in names):
        return "embedding", [], "softmax"
    count = len(config.texts("id2label")) or (config.positive("num_labels") if "num_labels" in config.content else 2)
    labels = read_labels(config, count)
    problem = config.get("problem_type", "")
    if count == 1:
        return "rerank", labels, read_relevance(config)
    if problem == "regression":
        raise config.refusal("problem_type", "a regression with several outputs cannot be adopted")
    return "classification", labels, "sigmoid" if problem == "multi_label_classification" else "softmax"


def choose_pooling(
    path: Path, config: Settings, family: Family, task: Task, said: PoolingKind | None, asked: str | None
) -> PoolingKind:
    """The one pooling that is right: of the classifier's head, of modules.json, or as asked."""
    wanted = None if asked is None else read_pooling_name(asked)
    if task != "embedding":
        said = read_classifier_pooling(config, family)
    if said is None and asked is None:
        raise ExportError(
            f"{path} does not say how token vectors become one (it has no modules.json with a Pooling): "
            f"say which of the poolings {', '.join(get_args(PoolingKind))} the model was trained with."
        )
    if None not in (said, wanted) and said != wanted:
        raise ExportError(f"{path} was made for the pooling {said}, not {wanted}: leave the pooling out.")
    return said or cast(PoolingKind, wanted)


def read_classifier_pooling(config: Settings, family: Family) -> PoolingKind:
    name = config.get("classifier_pooling", family.pooling) if family.pooling else "cls"
    if name not in CLASSIFIER_POOLINGS:
        raise ExportError(
            f"classifier_pooling in {config.file} is {name}, and only {', '.join(CLASSIFIER_POOLINGS)} can be adopted."
        )
    return CLASSIFIER_POOLINGS[name]


def read_max_tokens(config: Settings, family: Family, sentence: Settings) -> int:
    """The least of what sentence-transformers, the tokenizer and the positions allow."""
    first = family.first_position(config.content)
    positions = config.positive("max_position_embeddings") - first
    if positions < 1:
        raise config.refusal("max_position_embeddings", f"positions begin at {first}, more are needed")
    return min([positions, *token_limits(config.file.parent, sentence)])


def types_matter(config: Settings, family: Family, task: Task, tokenizer: Tokenizer) -> bool:
    """Whether token types can be other than zero: those of a single text are, with every common tokenizer."""
    if family.types is None or (known := config.get("type_vocab_size", family.types)) < 2:
        return False
    settings = Settings.read(config.file.parent / "tokenizer_config.json", optional=True)
    if "token_type_ids" not in settings.get("model_input_names", ["token_type_ids"]):
        return False  # so transformers leaves them out, and the model reads zeros
    types = tokenizer.encode("a").type_ids
    most = max(types if task == "embedding" else [*types, *tokenizer.encode("a", "a").type_ids], default=0)
    if most >= known:
        raise config.refusal("type_vocab_size", f"tokenizer.json gives the type {most}, {most + 1} are needed")
    return task != "embedding" or any(types)

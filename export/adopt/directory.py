"""What a directory of Hugging Face or sentence-transformers says about its encoder, read without torch.

Whatever cannot be honoured is refused: a setting that is passed over gives other vectors, and nobody notices.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tokenizers import Tokenizer, models, normalizers

from export.adopt.families import Family, family_of
from export.adopt.files import Settings, check_weights
from export.adopt.modules import DenseLayer, Modules, read_modules
from runtime.errors import ExportError
from runtime.manifest import PoolingKind, Task

Activation = Literal["softmax", "sigmoid"]

NO_LIMIT = 10**9  # tokenizers without a limit say 1e30
CLASSIFIER_POOLINGS: dict[str, PoolingKind] = {"cls": "cls", "bos": "cls", "mean": "mean"}


@dataclass(frozen=True, slots=True)
class Source:
    """A directory that can be adopted.

    Attributes:
        path: where config.json and the weights are.
        config: config.json.
        labels: one for a reranker, none for an embedding.
        activation: turns logits into probabilities.
        normalize: whether vectors are divided by their length.
        prompts: what precedes a text, by name.
        tokenizer: neither pads nor truncates.
        type_ids: whether token types must be told; they are zero otherwise.
        position_offset: the position of a text's first token.
    """

    path: Path
    config: dict[str, Any]
    model_type: str
    task: Task
    labels: list[str]
    activation: Activation
    pooling: PoolingKind
    normalize: bool
    dense: list[DenseLayer]
    prompts: dict[str, str]
    default_prompt: str | None
    max_tokens: int
    tokenizer: Tokenizer
    type_ids: bool
    vocab_size: int
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
    tokenizer = read_tokenizer(folder, config, lower_case=sentence.get("do_lower_case", False))
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
        dense=modules.dense,
        prompts=prompts,
        default_prompt=default_prompt,
        max_tokens=read_max_tokens(config, family, sentence),
        tokenizer=tokenizer,
        type_ids=types_matter(config, family, task, tokenizer),
        vocab_size=config.positive("vocab_size"),
        position_offset=family.first_position(config.content),
    )


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
    if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures", [""])):
        return "embedding", [], "softmax"
    labels = config.texts("id2label")
    count = len(labels) or (config.positive("num_labels") if "num_labels" in config.content else 2)
    names = [labels.get(str(number), "" if labels else f"LABEL_{number}") for number in range(count)]
    if not all(names):
        raise config.refusal("id2label", f"it must name the labels from 0 to {count - 1}")
    problem = config.get("problem_type", "")
    if count == 1:
        return "rerank", names, "sigmoid"
    if problem == "regression":
        raise config.refusal("problem_type", "a regression with several outputs cannot be adopted")
    return "classification", names, "sigmoid" if problem == "multi_label_classification" else "softmax"


def choose_pooling(
    path: Path, config: Settings, family: Family, task: Task, said: PoolingKind | None, asked: str | None
) -> PoolingKind:
    """The one pooling that is right: of the classifier's head, of modules.json, or as asked."""
    names = get_args(PoolingKind)
    if asked is not None and asked not in names:
        raise ExportError(f"The pooling {asked} is unknown: {', '.join(names)} are allowed.")
    if task != "embedding":
        said = read_classifier_pooling(config, family)
    if said is None and asked is None:
        raise ExportError(
            f"{path} does not say how token vectors become one (it has no modules.json with a Pooling): "
            f"say which of the poolings {', '.join(names)} the model was trained with."
        )
    if None not in (said, asked) and said != asked:
        raise ExportError(f"{path} was made for the pooling {said}, not {asked}: leave the pooling out.")
    return said or cast(PoolingKind, asked)


def read_classifier_pooling(config: Settings, family: Family) -> PoolingKind:
    name = config.get("classifier_pooling", family.pooling) if family.pooling else "cls"
    if name not in CLASSIFIER_POOLINGS:
        raise ExportError(
            f"classifier_pooling in {config.file} is {name}, and only {', '.join(CLASSIFIER_POOLINGS)} can be adopted."
        )
    return CLASSIFIER_POOLINGS[name]


def read_sentence_settings(folder: Path) -> Settings:
    """sentence_bert_config.json; its name has differed by family."""
    found = sorted(folder.glob("sentence_*_config.json"))
    return Settings.read(found[0] if found else folder / "sentence_bert_config.json", optional=True)


def read_max_tokens(config: Settings, family: Family, sentence: Settings) -> int:
    """The least of what sentence-transformers, the tokenizer and the positions allow."""
    first = family.first_position(config.content)
    positions = config.positive("max_position_embeddings") - first
    if positions < 1:
        raise config.refusal("max_position_embeddings", f"positions begin at {first}, more are needed")
    tokenizer = Settings.read(config.file.parent / "tokenizer_config.json", optional=True)
    others = (sentence.get("max_seq_length", 0), tokenizer.content.get("model_max_length"))
    return min(
        [positions, *(int(limit) for limit in others if isinstance(limit, int | float) and 1 <= limit < NO_LIMIT)]
    )


def read_tokenizer(folder: Path, config: Settings, lower_case: bool) -> Tokenizer:
    """tokenizer.json, without padding and truncation: both are done where texts are packed."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ExportError(
            f"{folder} has no tokenizer.json: load its tokenizer with AutoTokenizer.from_pretrained of transformers "
            "and save it there with save_pretrained."
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise ExportError(f"{file} cannot be read ({error}): download or save it again.") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest, size = max(tokenizer.get_vocab().values(), default=0), config.positive("vocab_size")
    if largest >= size:
        raise ExportError(f"{file} has the token id {largest}, the model {size} tokens only: they do not fit.")
    set_lower_case(tokenizer, folder, lower_case)
    return tokenizer


def set_lower_case(tokenizer: Tokenizer, folder: Path, lower_case: bool) -> None:
    """Lower-casing may stand beside the tokenizer: sentence-transformers' own is done before everything else."""
    said = Settings.read(folder / "tokenizer_config.json", optional=True).content.get("do_lower_case")
    lowers = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"
    if isinstance(tokenizer.model, models.WordPiece) and isinstance(said, bool) and said != lowers and not lower_case:
        raise ExportError(
            f"tokenizer.json in {folder} and do_lower_case in tokenizer_config.json disagree on lower-casing: "
            "save the tokenizer again with save_pretrained of transformers."
        )
    if lower_case and not lowers:
        rest = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])


def types_matter(config: Settings, family: Family, task: Task, tokenizer: Tokenizer) -> bool:
    """Whether token types can be other than zero: those of a single text are, with every common tokenizer."""
    if family.types is None or config.get("type_vocab_size", family.types) < 2:
        return False
    return task != "embedding" or any(tokenizer.encode("a").type_ids)


def read_prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """The prompts by name, and the name of the one that is used where none is asked for."""
    settings = Settings.read(path / "config_sentence_transformers.json", optional=True)
    settings.must_be("truncate_dim", None, "vectors that are cut short cannot be adopted")
    prompts, default = settings.texts("prompts"), settings.get("default_prompt_name", "") or None
    if default is not None and default not in prompts:
        raise settings.refusal("default_prompt_name", "it must be the name of one of the prompts")
    return prompts, default

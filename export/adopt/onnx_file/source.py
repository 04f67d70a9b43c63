"""What an ONNX file, and what lies beside it, says about its encoder. What nobody says is asked for, never guessed."""

from dataclasses import dataclass
from pathlib import Path

from export.adopt.onnx_file.ending import before_activation, refuse_probabilities
from export.adopt.onnx_file.graph import GraphFile
from model.pretrained.files import Settings
from model.pretrained.modules import Modules, normalizes, read_modules
from model.pretrained.text_model import (
    NO_LIMIT,
    RELEVANCE,
    TextModel,
    read_labels,
    read_pooling_name,
    read_prompts,
    read_relevance,
    read_sentence_settings,
    read_tokenizer,
    token_limits,
)
from runtime.artifact import read_regular
from runtime.errors import ExportError
from runtime.graph.packing import pad
from runtime.manifest import Activation, PoolingKind, Task

KNOWN_OUTPUTS = ("logits", "sentence_embedding", "last_hidden_state", "token_embeddings")  # the first that is there
MOST_TOKENS = 512  # of a text where nothing says how many
PROBED = 4096  # longer texts are not tried: attention would take gigabytes


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of a file; None where it is to be found beside it.

    Attributes:
        tokenizer: tokenizer.json; else beside the file, or in the folder above it.
        labels: a file with the name of a class in a line.
        output: name of the output that is served.
        normalize: whether embeddings are divided by their length.
    """

    tokenizer: Path | None = None
    labels: Path | None = None
    output: str | None = None
    pooling: str | None = None
    activation: Activation | None = None
    max_tokens: int | None = None
    normalize: bool | None = None


@dataclass(frozen=True, slots=True)
class Source(TextModel):
    """A file that can be adopted.

    Attributes:
        output: the value that is served: logits [R, C], embeddings [R, D], or vectors of tokens [R, S, D].
        width: its last dimension.
        per_token: whether it is the last of these, which is pooled.
        config: config.json beside the tokenizer; empty where there is none.
    """

    file: GraphFile
    output: str
    width: int
    per_token: bool
    config: Settings


def read_source(path: Path, hints: Hints) -> Source:
    """Reads an ONNX file, and the settings beside its tokenizer.

    Raises:
        ExportError: something is missing, wrong or not supported.
    """
    place = find_tokenizer(path, hints.tokenizer)
    folder = place.parent
    file = GraphFile(path)
    config = Settings.read(folder / "config.json", optional=True)
    output, width, per_token = choose_output(file, hints.output)
    task = choose_task(file, config, output, width, per_token, hints)
    labels = [] if task == "embedding" else choose_labels(config, hints.labels, width)
    output, ended = choose_logits(file, task, output, hints.activation)
    modules = read_modules(folder) if task == "embedding" and per_token else Modules(folder, None, [], False)
    sentence = read_sentence_settings(folder)
    known = file.vocabulary or config.get("vocab_size", 0)
    tokenizer = read_tokenizer(place, known or NO_LIMIT, sentence.get("do_lower_case", False))
    prompts, default_prompt = read_prompts(folder)
    said = (folder / "modules.json").exists()
    return Source(
        task=task,
        labels=labels,
        activation=choose_activation(config, task, hints.activation, ended),
        pooling=choose_pooling(path, task, per_token, modules, hints.pooling),
        strip=task == "rerank" or said,
        normalize=normalizes(folder) if hints.normalize is None else hints.normalize,
        prompts=prompts,
        default_prompt=default_prompt,
        max_tokens=choose_max_tokens(file, config, token_limits(folder, sentence), hints.max_tokens),
        tokenizer=tokenizer,
        type_ids="type_ids" in file.inputs and (task != "embedding" or any(tokenizer.encode("a").type_ids)),
        vocab_size=known or tokenizer.get_vocab_size(),
        file=file,
        output=output,
        width=width,
        per_token=per_token,
        config=config,
    )


def find_tokenizer(path: Path, said: Path | None) -> Path:
    """Hugging Face repositories hold onnx/model.onnx below the folder of the tokenizer."""
    places = [said] if said else [folder / "tokenizer.json" for folder in (path.parent, path.parent.parent)]
    for place in places:
        if place.is_file():
            return place
    raise ExportError(f"{' or '.join(map(str, places))} is needed: say where the tokenizer.json is with --tokenizer.")


def choose_output(file: GraphFile, asked: str | None) -> tuple[str, int, bool]:
    """The output that is served, its last dimension, and whether it has a vector for each token."""
    if not file.shapes:
        raise ExportError(f"{file.path} gives neither vectors nor logits: export the encoder, or it with its head.")
    names = [asked] if asked else [name for name in KNOWN_OUTPUTS if name in file.shapes] or list(file.shapes)
    if (len(names) > 1 and names[0] not in KNOWN_OUTPUTS) or names[0] not in file.shapes:
        what = f"no output {asked}" if asked else "several outputs"
        raise ExportError(f"{file.path} has {what}: say which of {tell(file)} is to be served with --output.")
    *_, width = shape = file.shapes[names[0]]
    return names[0], width, len(shape) == 3


def tell(file: GraphFile) -> str:
    """The outputs that can be served, for a person."""
    return ", ".join(
        f"{name} ({shape[-1]} numbers a {'token' if len(shape) == 3 else 'text'})"
        for name, shape in file.shapes.items()
    )


def choose_task(file: GraphFile, config: Settings, output: str, width: int, per_token: bool, hints: Hints) -> Task:
    """Logits by their name, by config.json, or because labels are given; else embeddings."""
    classifies = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures", [""]))
    if output != "logits" and hints.labels is None and not (classifies and not per_token):
        return "embedding"
    if per_token:
        raise ExportError(
            f"{file.path} gives {output} for every token: token classification and masked words cannot be served."
        )
    return "rerank" if width == 1 else "classification"


def choose_labels(config: Settings, file: Path | None, count: int) -> list[str]:
    if file is None:
        return read_labels(config, count)
    try:
        lines = read_regular(file).decode("utf-8-sig").splitlines()
        labels = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file} cannot be read ({error}): expected a label in a line, in UTF-8.") from None
    if len(labels) != count or len(set(labels)) != count:
        raise ExportError(f"{file} has {len(set(labels))} different labels, the model {count} logits: give as many.")
    return labels


def choose_logits(file: GraphFile, task: Task, output: str, asked: Activation | None) -> tuple[str, Activation | None]:
    """The value that is served, and the activation that the file ends in."""
    if task == "embedding":
        return output, None
    logits, ended = before_activation(file, output)
    if asked is None and ended is None:
        refuse_probabilities(file.path, output, file.run(pad(file.varied))[output])
    return logits, ended


def choose_activation(
    config: Settings, task: Task, asked: Activation | None, ended: Activation | None = None
) -> Activation:
    """What the user or the end of the file says, else config.json."""
    if task == "embedding":
        if asked:
            raise ExportError(f"The activation {asked} is for logits, the model gives embeddings: leave it out.")
        return "softmax"
    if task == "rerank":
        if asked == "softmax":
            raise ExportError(
                "The activation softmax is for several logits, a reranker has one: take sigmoid or identity."
            )
        said = asked or ended
        return said if said and said in RELEVANCE.values() else read_relevance(config)
    if asked == "identity":
        raise ExportError("The activation identity is for a reranker, the model has no single logit: leave it out.")
    several = config.get("problem_type", "") == "multi_label_classification"
    return asked or ended or ("sigmoid" if several else "softmax")


def choose_pooling(path: Path, task: Task, per_token: bool, modules: Modules, asked: str | None) -> PoolingKind:
    """How vectors of tokens become one; of a classifier, for its embedding alone."""
    wanted = None if asked is None else read_pooling_name(asked)
    if task != "embedding":
        return wanted or "cls"
    if not per_token:
        if wanted is not None:
            raise ExportError(f"{path} gives one vector of each text: leave --pooling out, or name another --output.")
        return "mean"
    if modules.dense:
        raise ExportError(f"{path} lacks the Dense layers of modules.json: export it with them (sentence_embedding).")
    if wanted is None and modules.pooling is None:
        raise ExportError(
            f"{path} gives a vector for each token, and nothing says how they become one: name the pooling "
            "that the model was trained with by --pooling mean, cls, last, weighted or max."
        )
    if None not in (wanted, modules.pooling) and wanted != modules.pooling:
        raise ExportError(f"modules.json names the pooling {modules.pooling}, not {wanted}: leave --pooling out.")
    return wanted or modules.pooling or "mean"


def choose_max_tokens(file: GraphFile, config: Settings, limits: list[int], asked: int | None) -> int:
    """The least of what is said, and no more than the file reads."""
    positions = config.get("max_position_embeddings", 0)
    said = [*limits, *([positions] if positions > 0 else [])]
    most = asked or min(said, default=MOST_TOKENS)
    tried = min(most, PROBED)
    longest = file.longest(tried)
    if longest == tried:
        longest = most
    if asked and longest < asked:
        raise ExportError(f"{file.path} reads {longest} tokens at most: take {asked} back to that with --max-tokens.")
    return longest

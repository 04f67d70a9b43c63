"""What is known of somebody else's text encoder before it runs, and what stands in the files beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from model.pretrained.files import Settings
from runtime.errors import ExportError
from runtime.manifest import Activation, PoolingKind, Task, TextInputs

NO_LIMIT = 10**9  # tokenizers without a limit say 1e30
# classes of transformers that take tokenizer.json as it is, whatever stands beside it
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# an invisible character, signs and a long word: hardly a vocabulary knows them all
STRANGE = "\U000e0001 漢 ☃ 𓀀 " + 300 * "x"
RELEVANCE: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity"}  # what makes a reranker's score


@dataclass(frozen=True, slots=True)
class TextModel:
    """How an encoder reads texts, and what it makes of them.

    Attributes:
        labels: one for a reranker, none for an embedding.
        activation: turns logits into scores.
        normalize: whether vectors are divided by their length.
        strip: whether space around a text is left out.
        prompts: what precedes a text, by name.
        tokenizer: neither pads nor truncates.
        type_ids: whether token types must be told; they are zero otherwise.
    """

    task: Task
    labels: list[str]
    activation: Activation
    pooling: PoolingKind
    normalize: bool
    strip: bool
    prompts: dict[str, str]
    default_prompt: str | None
    max_tokens: int
    tokenizer: Tokenizer
    type_ids: bool
    vocab_size: int

    def check_room(self, pairs: bool = False) -> None:
        """Refuses a limit that leaves no token for the text itself: tokenizers would not cut at all.

        Args:
            pairs: whether an input is a pair of texts.
        """
        added = self.tokenizer.num_special_tokens_to_add(pairs)
        if self.max_tokens <= added:
            raise ExportError(
                f"A limit of {self.max_tokens} tokens leaves no room for {'pairs' if pairs else 'texts'}, to which the "
                f"tokenizer adds {added} special ones: {added + 1} are needed at least, raise max_seq_length or "
                "model_max_length beside the tokenizer, or --max-tokens."
            )

    def inputs(self, pairs: bool = False) -> TextInputs:
        """What a manifest says of the inputs.

        Args:
            pairs: whether an input is a pair of texts.
        """
        return TextInputs(
            max_tokens=self.max_tokens,
            special_tokens=True,
            pairs=pairs,
            type_ids=self.type_ids,
            vocabulary=self.vocab_size,
            pooling=self.pooling,
            strip=self.strip,
            prompts={} if pairs else self.prompts,
            default_prompt=None if pairs else self.default_prompt,
        )


def read_pooling_name(name: str) -> PoolingKind:
    """A pooling that was asked for, or raises ExportError."""
    names = get_args(PoolingKind)
    if name not in names:
        raise ExportError(f"The pooling {name} is unknown: {', '.join(names)} are allowed.")
    return cast(PoolingKind, name)


def read_labels(config: Settings, count: int) -> list[str]:
    """The names of so many labels that config.json gives; LABEL_0 and so on where it gives none."""
    labels = config.texts("id2label")
    names = [labels.get(str(number), "" if labels else f"LABEL_{number}") for number in range(count)]
    if not all(names) or len(labels) not in (0, count):
        raise config.refusal("id2label", f"it must name the labels from 0 to {count - 1}, and no others")
    return names


def read_relevance(config: Settings) -> Activation:
    """What makes a reranker's score of its logit, where versions of sentence-transformers, newest first, write it."""
    beside = Settings.read(config.file.parent / "config_sentence_transformers.json", optional=True)
    places = (
        (beside, "activation_fn"),
        (Settings(config.file, config.get("sentence_transformers", {})), "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    )
    settings, key = next((place for place in places if place[0].content.get(place[1]) is not None), places[0])
    name = settings.get(key, "Sigmoid").rpartition(".")[2]
    if name not in RELEVANCE:
        raise settings.refusal(key, f"only {' and '.join(RELEVANCE)} can be adopted")
    return RELEVANCE[name]


def token_limits(folder: Path, sentence: Settings) -> list[int]:
    """How many tokens a text may have, as the files beside a tokenizer say.

    What sentence-transformers says wins over the tokenizer: so its own library reads them.
    """
    said = sentence.get("max_seq_length", 0)
    if said < 1:
        said = Settings.read(folder / "tokenizer_config.json", optional=True).content.get("model_max_length", 0)
    return [int(said)] if isinstance(said, int | float) and 1 <= said < NO_LIMIT else []


def read_sentence_settings(folder: Path) -> Settings:
    """sentence_bert_config.json; its name has differed by family."""
    found = sorted(folder.glob("sentence_*_config.json"))
    return Settings.read(found[0] if found else folder / "sentence_bert_config.json", optional=True)


def read_tokenizer(file: Path, vocab_size: int, lower_case: bool) -> Tokenizer:
    """A tokenizer.json, without padding and truncation: both are done where texts are packed."""
    if not file.is_file():
        raise ExportError(
            f"{file.parent} has no {file.name}: load its tokenizer with AutoTokenizer.from_pretrained of transformers "
            "and save it there with save_pretrained."
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise ExportError(f"{file} cannot be read ({error}): download or save it again.") from None
    check_truncation(tokenizer, file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= vocab_size:
        raise ExportError(f"{file} has the token id {largest}, the model {vocab_size} tokens only: they do not fit.")
    try:
        tokenizer.encode(STRANGE)
    except Exception as error:  # the same; most often the unknown token is not in the vocabulary
        raise ExportError(
            f"{file} cannot read every text ({error}): its unknown token must be in its vocabulary, save it again."
        ) from None
    check_settings(tokenizer, file.parent)
    set_lower_case(tokenizer, file.parent, lower_case)
    return tokenizer


def check_truncation(tokenizer: Tokenizer, file: Path) -> None:
    """Refuses a tokenizer that cuts the beginning of a text; tokenizer.json counts where nothing stands beside it."""
    settings = Settings.read(file.parent / "tokenizer_config.json", optional=True)
    reason = "texts are cut at their end here, only right can be adopted"
    settings.must_be("truncation_side", "right", reason)
    side = (tokenizer.truncation or {}).get("direction", "right")
    if "truncation_side" not in settings.content and side != "right":
        raise ExportError(f"The direction of the truncation in {file} is {side}: {reason}.")


def check_settings(tokenizer: Tokenizer, folder: Path) -> None:
    """Refuses a tokenizer.json that disagrees with what stands beside it, which transformers puts in its place.

    Only where all versions of transformers do: version 5 makes the rest of many tokenizers anew, in its own way.
    """
    settings = Settings.read(folder / "tokenizer_config.json", optional=True)
    if settings.content.get("tokenizer_class") in PLAIN_CLASSES:
        return
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    used: dict[str, tuple[bool, bool]] = {}  # what tokenizer.json does, and what null beside it means
    if isinstance(normalizer, normalizers.BertNormalizer):
        accents, lowers = normalizer.strip_accents, normalizer.lowercase
        used["strip_accents"] = lowers if accents is None else accents, lowers
        used["tokenize_chinese_chars"] = normalizer.handle_chinese_chars, normalizer.handle_chinese_chars
    if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
        used["add_prefix_space"] = pre_tokenizer.add_prefix_space, pre_tokenizer.add_prefix_space
    for key, (does, null) in used.items():
        if key in settings.content and settings.get(key, null) != does:
            raise ExportError(
                f"tokenizer.json in {folder} and {key} in tokenizer_config.json disagree: load the tokenizer with "
                "AutoTokenizer.from_pretrained of transformers and save it again with save_pretrained."
            )


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


def read_prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """The prompts by name, and the name of the one that is used where none is asked for."""
    settings = Settings.read(path / "config_sentence_transformers.json", optional=True)
    settings.must_be("truncate_dim", None, "vectors that are cut short cannot be adopted")
    prompts, default = settings.texts("prompts"), settings.get("default_prompt_name", "") or None
    if default is not None and default not in prompts:
        raise settings.refusal("default_prompt_name", "it must be the name of one of the prompts")
    return prompts, default

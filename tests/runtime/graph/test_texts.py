"""Texts and pairs as adopted encoders read them: with prompts, special tokens and token types."""

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from runtime.errors import InvalidInput
from runtime.graph.texts import SpecialTokensEncoder, TextEncoder
from runtime.manifest import TextInputs

CLS, SEP, UNK = 1, 2, 3
WORDS = ["what", "is", "my", "balance", "will", "it", "rain", "query", "passage", "ze", "##ro"]
IDS = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS, ":"])}
PROMPTS = {"query": "query: ", "passage": "passage: "}


def make_tokenizer() -> Tokenizer:
    """WordPiece in lower case, as BERT has it; it pads and truncates on its own, as saved tokenizers often do."""
    tokenizer = Tokenizer(models.WordPiece(IDS, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(5)
    return tokenizer


def encoder(**inputs: Any) -> SpecialTokensEncoder:
    return SpecialTokensEncoder(make_tokenizer(), TextInputs(**{"max_tokens": 8, "special_tokens": True} | inputs))


def ids(text: str, pair: str | None = None) -> list[int]:
    """What the library gives on its own."""
    tokenizer = make_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer.encode(text, pair, add_special_tokens=True).ids


def assert_refused(texts: TextEncoder, inputs: list[Any], code: str, *words: str, prompt: str | None = None) -> None:
    with pytest.raises(InvalidInput) as caught:
        texts.encode(inputs, prompt)
    assert caught.value.code == code
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["what is my balance", "Zero", "  RAIN \n", "rain?", "日本", "[SEP] rain"])
def test_ids_are_those_of_the_library_with_special_tokens(text: str):
    (item,) = encoder().encode([text])
    assert item.tokens.dtype == np.int64
    assert item.tokens.tolist() == ids(text)
    assert not item.truncated


def test_each_of_many_texts_is_as_long_as_it_is_alone():
    first, second = encoder().encode(["rain", "what is my balance"])
    assert (first.tokens.tolist(), second.tokens.tolist()) == (ids("rain"), ids("what is my balance"))


def test_a_text_that_is_too_long_keeps_its_last_special_token_and_says_so():
    exact, long = encoder().encode(["rain " * 6, "rain " * 7])
    assert exact.tokens.tolist() == long.tokens.tolist() == [CLS, *[IDS["rain"]] * 6, SEP]
    assert (exact.truncated, long.truncated) == (False, True)


@pytest.mark.parametrize("text", ["rain " * 100_000, "rain" + " " * 5_000 + "balance", "rain " * 5 + "a" * 5_000])
def test_a_very_long_text_is_read_in_part_and_says_so(text: str):
    (item,) = encoder().encode([text])
    assert item.truncated
    assert (item.tokens[0], item.tokens[1], item.tokens[-1]) == (CLS, IDS["rain"], SEP)


def test_space_before_and_behind_a_text_does_not_cut_it():
    plain, padded = encoder().encode(["what is", " " * 5_000 + "what is" + "\n" * 5_000])
    assert padded.tokens.tolist() == plain.tokens.tolist()
    assert not padded.truncated


def test_space_around_a_text_is_left_out_where_sentence_transformers_does():
    space = Tokenizer(models.WordLevel({"[UNK]": 0, " ": 1, "a": 2, "b": 3}, unk_token="[UNK]"))
    space.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inputs = TextInputs(max_tokens=8, special_tokens=True, prompts={"q": "b "})
    kept, left_out = (
        SpecialTokensEncoder(space, inputs.model_copy(update={"strip": strip})) for strip in (False, True)
    )
    assert [item.tokens.tolist() for item in kept.encode([" a\n"])] == [[1, 2, 0]]
    assert [item.tokens.tolist() for item in left_out.encode([" a\n"])] == [[2]]
    assert [item.tokens.tolist() for item in left_out.encode([" a "], "q")] == [[3, 1, 1, 2]]  # not within the prompt
    pairs = SpecialTokensEncoder(space, inputs.model_copy(update={"strip": True, "pairs": True, "prompts": {}}))
    assert [item.tokens.tolist() for item in pairs.encode([[" a ", " b"]])] == [[2, 3]]


def test_a_single_text_has_types_of_zero_where_the_graph_takes_them():
    (item,) = encoder(type_ids=True).encode(["what is"])
    assert item.tokens.tolist() == [[token, 0] for token in ids("what is")]


def test_a_prompt_goes_before_each_text():
    texts = encoder(prompts=PROMPTS)
    plain, asked = texts.encode(["rain"]), texts.encode(["rain", "balance"], "query")
    assert plain[0].tokens.tolist() == ids("rain")
    assert [item.tokens.tolist() for item in asked] == [ids("query: rain"), ids("query: balance")]


def test_the_default_prompt_is_used_where_none_is_named():
    texts = encoder(prompts=PROMPTS, default_prompt="passage")
    assert texts.encode(["rain"])[0].tokens.tolist() == ids("passage: rain")
    assert texts.encode(["rain"], "query")[0].tokens.tolist() == ids("query: rain")


def test_an_unknown_prompt_is_refused_with_those_that_are_known():
    assert_refused(encoder(prompts=PROMPTS), ["rain"], "unknown_prompt", "'Query'", "query, passage", prompt="Query")
    assert_refused(encoder(), ["rain"], "unknown_prompt", "'query'", "none", prompt="query")
    assert_refused(TextEncoder(make_tokenizer(), 8), ["rain"], "unknown_prompt", "'query'", prompt="query")


@pytest.mark.parametrize("given", [{}, {"default_prompt": "query"}], ids=["named", "default"])
def test_a_prompt_never_breaks_a_pair(given: dict[str, str]):
    texts = encoder(pairs=True, prompts=PROMPTS, **given)
    if given:
        assert texts.encode([["what is", "rain"]])[0].tokens[0] == CLS
    else:
        assert_refused(texts, [["what is", "rain"]], "unknown_prompt", "prompt", prompt="query")


@pytest.mark.parametrize("text", ["", " ", " \t\r\n", "\u3000", "\x00"])
def test_a_text_without_a_token_is_refused(text: str):
    assert_refused(encoder(), ["rain", text], "empty_text", "inputs[1]", "expected")
    assert_refused(encoder(pairs=True), [["rain", "rain"], [text, text]], "empty_text", "inputs[1]", "expected")


def test_a_prompt_does_not_hide_an_empty_text():
    assert_refused(encoder(prompts=PROMPTS), ["rain", " "], "empty_text", "inputs[1]", prompt="query")


@pytest.mark.parametrize("value", [None, 5, True, {}], ids=str)
def test_what_is_no_text_is_refused(value: Any):
    assert_refused(encoder(), ["rain", value], "invalid_text", "inputs[1]", "expected")
    assert_refused(encoder(pairs=True), [["rain", value]], "invalid_text", "inputs[0][1]", "expected")
    assert_refused(encoder(pairs=True), [["a", "b"], value], "invalid_pair", "inputs[1]", "expected a pair")


def test_a_list_where_a_text_is_expected_is_refused():
    assert_refused(encoder(), ["rain", ["what is", "rain"]], "invalid_text", "inputs[1] is a list", "no pair")


@pytest.mark.parametrize(
    ("value", "words"),
    [("rain", "a text"), ([], "a list of 0"), (["rain"], "a list of 1"), (["rain"] * 3, "a list of 3")],
    ids=str,
)
def test_what_is_no_pair_is_refused(value: Any, words: str):
    assert_refused(encoder(pairs=True), [["a", "b"], value], "invalid_pair", f"inputs[1] is {words}", "pair")


@pytest.mark.parametrize("text", ["\ud800", "rain until \udc00"])
def test_half_a_surrogate_pair_is_refused(text: str):
    assert_refused(encoder(), ["rain", text], "invalid_text", "inputs[1]", "surrogate")
    assert_refused(encoder(pairs=True), [["rain", text]], "invalid_text", "inputs[0][1]", "surrogate")


def test_token_ids_are_taken_as_they_are():
    rows = [np.array([CLS, 5, SEP]), np.array([14])]
    assert [item.tokens.tolist() for item in encoder().encode_ids(rows)] == [[CLS, 5, SEP], [14]]
    assert encoder(type_ids=True).encode_ids(rows)[0].tokens.tolist() == [[CLS, 0], [5, 0], [SEP, 0]]


def test_token_ids_are_those_that_the_graph_knows():
    assert encoder(vocabulary=60).encode_ids([np.array([59])])[0].tokens.tolist() == [59]
    for texts, token in ((encoder(vocabulary=60), 60), (encoder(), len(IDS)), (encoder(), -1)):
        with pytest.raises(InvalidInput, match=rf"inputs\[0\] has token {token}, expected 0 to ") as caught:
            texts.encode_ids([np.array([token])])
        assert caught.value.code == "unknown_token"


@pytest.mark.parametrize(("length", "code"), [(0, "empty_text"), (9, "too_many_tokens")])
def test_too_few_or_many_token_ids_are_refused(length: int, code: str):
    with pytest.raises(InvalidInput, match=rf"inputs\[1\] has {length} tokens") as caught:
        encoder().encode_ids([np.array([5]), np.full(length, 5)])
    assert caught.value.code == code


def test_token_ids_are_no_pair():
    with pytest.raises(InvalidInput, match="pair") as caught:
        encoder(pairs=True, type_ids=True).encode_ids([np.array([5])])
    assert caught.value.code == "invalid_pair"


def test_tokens_tell_where_they_lie_in_the_text():
    (tokens,) = encoder().tokenize([" Zero  rain"])
    assert [token["text"] for token in tokens] == ["[CLS]", "ze", "##ro", "rain", "[SEP]"]
    assert [token["id"] for token in tokens] == ids(" Zero  rain")
    assert [token["special"] for token in tokens] == [True, False, False, False, True]
    assert [(token["start"], token["stop"]) for token in tokens] == [(0, 0), (1, 3), (3, 5), (7, 11), (0, 0)]


@pytest.mark.parametrize(
    ("inputs", "given", "prompt"),
    [
        (["what is my balance", "rain"], {}, None),
        (["rain " * 50], {}, None),
        (["rain", " " * 5_000 + "rain"], {"prompts": PROMPTS}, "query"),
        ([["what " * 9, "rain"]], {"pairs": True, "type_ids": True}, None),
    ],
    ids=["texts", "long", "prompt", "pair"],
)
def test_tokens_told_are_those_that_are_read(inputs: list[Any], given: dict[str, Any], prompt: str | None):
    texts = encoder(**given)
    read = [item.tokens.reshape(len(item.tokens), -1)[:, 0].tolist() for item in texts.encode(inputs, prompt)]
    assert [[token["id"] for token in tokens] for tokens in texts.tokenize(inputs, prompt)] == read


@pytest.mark.parametrize("text", ["what is my balance", "rain " * 50, " " * 5_000 + "rain"])
def test_tokens_told_are_those_that_are_read_without_special_tokens(text: str):
    tokenizer = make_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = TextEncoder(tokenizer, 8)
    assert [[token["id"] for token in tokens] for tokens in texts.tokenize([text])] == [
        item.tokens.tolist() for item in texts.encode([text])
    ]


def test_what_cannot_be_read_cannot_be_tokenized():
    with pytest.raises(InvalidInput, match=r"inputs\[1\] is empty"):
        encoder().tokenize(["rain", " "])
    with pytest.raises(InvalidInput, match="no prompt 'x'"):
        encoder().tokenize(["rain"], "x")

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError, InvalidInput
from runtime.graph.inputs import FeatureEncoder, InputEncoder, describe
from runtime.graph.texts import TextEncoder, make_input_encoder, piece_lengths
from runtime.manifest import TOKENIZER
from tests.helpers import TEXTS, rewrite

STEP = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture
def texts(text_artifact: Artifact) -> InputEncoder:
    return make_input_encoder(text_artifact)


@pytest.fixture
def features(feature_artifact: Artifact) -> InputEncoder:
    return make_input_encoder(feature_artifact)


def assert_refused(encoder: InputEncoder, value: Any, code: str, *words: str) -> None:
    """The second of two inputs is refused with `code`, in one sentence that says which and what is allowed."""
    good = "hi" if not isinstance(encoder, FeatureEncoder) else [STEP]
    with pytest.raises(InvalidInput) as caught:
        encoder.encode([good, value])
    message = str(caught.value)
    assert caught.value.code == code
    for word in ("inputs[1]", "expected", *words):
        assert word in message
    assert message.endswith(".")
    assert "\n" not in message


def test_text_is_encoded_as_in_training(texts: InputEncoder):
    for text, item in zip(TEXTS, texts.encode(TEXTS), strict=True):
        ids = texts.tokenizer.encode(text, add_special_tokens=False).ids
        assert item.tokens.dtype == np.int64
        assert item.tokens.tolist() == ids[:12]
        assert item.truncated == (len(ids) > 12)


def test_text_of_any_case_and_surrounding_space_is_the_same(texts: InputEncoder):
    plain, odd = texts.encode(["what is my balance", "  What is MY balance\n"])
    assert odd.tokens.tolist() == plain.tokens.tolist()


def test_text_longer_than_the_model_reads_is_flagged(texts: InputEncoder):
    short, exact, long = texts.encode(["balance", "balance " * 12, "balance " * 13])
    assert [len(item.tokens) for item in (short, exact, long)] == [1, 12, 12]
    assert [item.truncated for item in (short, exact, long)] == [False, False, True]


@pytest.mark.parametrize("text", ["a" * 1_000_000, "balance " * 125_000, "é" * 1_000_000, "\u200b" * 1_000_000])
def test_very_long_text_is_read_in_part(texts: InputEncoder, text: str):
    (item,) = texts.encode([text])
    assert (len(item.tokens), item.truncated) == (12, True)


@pytest.mark.parametrize("text", ["", " ", " \t\r\n", "\u00a0", "\u3000"])
def test_text_without_a_word_is_refused(texts: InputEncoder, text: str):
    assert_refused(texts, text, "empty_text", "is empty")


@pytest.mark.parametrize("text", ["\u200b", "\u200d\ufeff", "😀", "👩‍👩‍👧", "مرحبا", "日本", "\x00", "e\u0301"])
def test_any_other_unicode_is_read(texts: InputEncoder, text: str):
    (item,) = texts.encode([text])
    assert 1 <= len(item.tokens) <= 12
    assert (item.tokens < texts.tokenizer.get_vocab_size()).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), (5, "a number"), (1.5, "a number"), (True, "a boolean"), (["a"], "a list"), ({}, "an object")],
)
def test_what_is_no_text_is_refused(texts: InputEncoder, value: Any, words: str):
    assert_refused(texts, value, "invalid_text", f"is {words}")


@pytest.mark.parametrize("text", ["\ud800", "fine until \udc00", "\udc00\ud800"])
def test_half_a_surrogate_pair_is_refused(texts: InputEncoder, text: str):
    assert_refused(texts, text, "invalid_text", "surrogate")


def test_features_become_float32(features: InputEncoder):
    item, other = features.encode([[STEP, [0, -1, 0.5, 1e-3]], [[1, 2, 3, 4]]])
    assert item.tokens.dtype == other.tokens.dtype == np.float32
    np.testing.assert_array_equal(item.tokens, np.array([STEP, [0, -1, 0.5, 1e-3]], dtype=np.float32))
    assert not item.truncated


def test_features_longer_than_the_model_reads_are_flagged(features: InputEncoder):
    exact, long = features.encode([[STEP] * 12, [STEP] * 13])
    assert [len(item.tokens) for item in (exact, long)] == [12, 12]
    assert [item.truncated for item in (exact, long)] == [False, True]


@pytest.mark.parametrize(
    "value", [[[1, 2, 3]], [[1, 2, 3, 4, 5]], [1, 2, 3, 4], [[[1, 2, 3, 4]]], [], [[]], [[], []], 5, 1.5], ids=str
)
def test_features_of_another_shape_are_refused(features: InputEncoder, value: Any):
    assert_refused(features, value, "wrong_width", "shape", "[4]")


@pytest.mark.parametrize("value", [[STEP, [1, 2]], [STEP, 1], [[1, 2, 3, [4]]]], ids=str)
def test_ragged_features_are_refused(features: InputEncoder, value: Any):
    assert_refused(features, value, "invalid_features", "ragged")


@pytest.mark.parametrize(
    "value", ["text", ["a"], [["1", "2", "3", "4"]], [[1, 2, 3, "4"]], [[1, 2, 3, None]], None, {}, [{}]], ids=str
)
def test_features_that_are_no_numbers_are_refused(features: InputEncoder, value: Any):
    assert_refused(features, value, "invalid_features", "not numeric")


@pytest.mark.parametrize("value", [True, [[True] * 4], [[True, 2, 3, 4]], [STEP, [1.0, 2.0, 3.0, False]]], ids=str)
def test_booleans_are_no_features(features: InputEncoder, value: Any):
    assert_refused(features, value, "invalid_features")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39, -1e300])
def test_features_that_float32_cannot_hold_are_refused(features: InputEncoder, number: float):
    assert_refused(features, [STEP, [1, 2, number, 4]], "not_finite")
    assert_refused(features, [STEP] * 12 + [[1, 2, number, 4]], "not_finite")


@pytest.mark.parametrize("value", [10**30, -(10**400)])
def test_huge_integers_are_refused(features: InputEncoder, value: int):
    with pytest.raises(InvalidInput):
        features.encode([[[value, 1, 2, 3]]])


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_tokenizer_that_is_none_is_refused(text_artifact: Artifact, tmp_path: Path, content: bytes):
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, {TOKENIZER: content}))
    with pytest.raises(ArtifactError, match="is not a tokenizer") as caught:
        make_input_encoder(artifact)
    assert str(artifact.path / TOKENIZER) in str(caught.value)


def test_describe_names_what_json_knows():
    values = (None, True, 1, 1.5, "a", [], {})
    assert [describe(value) for value in values] == [
        "null",
        "a boolean",
        "a number",
        "a number",
        "a text",
        "a list",
        "an object",
    ]


def test_text_that_is_left_out_is_called_truncated(text_artifact: Artifact):
    encoder = make_input_encoder(text_artifact)
    for text in ("what is my balance" + " " * 4000 + "tell me", "b" * 100_000):
        assert encoder.encode([text])[0].truncated
    assert not encoder.encode(["what is my balance" + " " * 4000])[0].truncated


def test_token_ids_of_a_client_are_checked_not_cut(texts: TextEncoder):
    vocabulary = texts.vocabulary
    rows = [np.array([0, vocabulary - 1]), np.arange(12)]
    assert [item.tokens.tolist() for item in texts.encode_ids(rows)] == [row.tolist() for row in rows]
    assert not any(item.truncated for item in texts.encode_ids(rows))
    for bad, code, word in (
        (np.arange(13), "too_many_tokens", "13"),
        (np.arange(0), "empty_text", "0 tokens"),
        (np.array([1, vocabulary]), "unknown_token", str(vocabulary)),
        (np.array([-1]), "unknown_token", "-1"),
    ):
        with pytest.raises(InvalidInput, match=rf"inputs\[2\].*{word}.*expected") as caught:
            texts.encode_ids([*rows, bad])
        assert caught.value.code == code


def test_vocabulary_is_that_of_the_pieces(texts: TextEncoder, text_artifact: Artifact):
    lengths = piece_lengths(text_artifact)
    assert lengths is not None and len(lengths) == texts.vocabulary


def test_arrays_of_a_client_are_cut_and_their_padding_is_not_looked_at(features: FeatureEncoder):
    values = np.ones((2, 20, 4), dtype=np.float32)
    assert [(len(item.tokens), item.truncated) for item in features.encode_arrays(values)] == [(12, True)] * 2
    values[1, 3:] = np.nan
    encoded = features.encode_arrays(values, [20, 3])
    assert [(len(item.tokens), item.truncated) for item in encoded] == [(12, True), (3, False)]
    with pytest.raises(InvalidInput, match=r"inputs\[1\] has NaN"):
        features.encode_arrays(values, [20, 4])


def test_refusals_speak_of_what_the_client_calls_its_inputs():
    assert str(InvalidInput("x", "inputs[1] is empty.").about("text")) == "text[1] is empty."
    other = InvalidInput("x", "There are no inputs.").about("text")
    assert (str(other), other.code) == ("There are no inputs.", "x")

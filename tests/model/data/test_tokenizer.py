import random

import pytest
from tokenizers import Tokenizer

from model.data.tokenizer import BpeDropout, train_tokenizer
from runtime.graph.texts import CHARACTERS_PER_TOKEN

TEXTS = ["What is my balance", "what is the weather like", "set an alarm, please", "balance of my account"] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 400)


def test_frequent_words_become_one_token(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("what is my balance").ids) == 4


def test_case_and_outer_space_do_not_matter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("  WHAT is My balance ").ids == tokenizer.encode("what is my balance").ids


@pytest.mark.parametrize("text", ["żółć", "🤖🤖", "日本語", "\x00\x7f", "qqqq"])
def test_every_text_has_tokens_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert ids and tokenizer.decode(ids).strip() == text.strip()


def test_bpe_dropout_without_probability_equals_the_tokenizer(tokenizer: Tokenizer) -> None:
    split = BpeDropout(tokenizer, 0.0, seed=0)
    for text in [*TEXTS, "unseen words, 🤖 and all"]:
        assert split.encode(text, random.Random(0)) == tokenizer.encode(text).ids


def test_bpe_dropout_keeps_the_text_and_varies_its_tokens(tokenizer: Tokenizer) -> None:
    split, rng = BpeDropout(tokenizer, 0.5, seed=0), random.Random(0)
    variants = [split.encode("what is my balance", rng) for _ in range(20)]
    assert {tokenizer.decode(ids).strip() for ids in variants} == {"what is my balance"}
    assert len({tuple(ids) for ids in variants}) > 10


def test_bpe_dropout_is_a_function_of_its_seed(tokenizer: Tokenizer) -> None:
    def draw(seed: int, warm_up: str) -> list[int]:
        split = BpeDropout(tokenizer, 0.5, seed)
        split.encode(warm_up, random.Random(9))  # words met before, in another order
        return split.encode("what is my balance", random.Random(0))

    assert draw(0, "alarm balance") == draw(0, "weather is my")
    assert draw(0, "alarm") != draw(1, "alarm")


def test_very_long_word_is_split_without_delay(tokenizer: Tokenizer) -> None:
    word = "abcde" * 4000
    assert BpeDropout(tokenizer, 0.5, seed=0).encode(word, random.Random(0)) == tokenizer.encode(word).ids


def test_tokens_stay_short() -> None:
    long = train_tokenizer(["x" * 300 + " end"] * 50, 600)
    assert max(map(len, long.get_vocab())) <= CHARACTERS_PER_TOKEN

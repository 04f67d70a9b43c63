"""Augmentation of training texts, word by word: crossover, word dropout and word replacement."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from model.training.recipe import Recipe


class Variant(NamedTuple):
    """A text made from a training text.

    Attributes:
        same_class: whether it surely keeps the class; a crossover with another class may not, a teacher must say.
    """

    text: str
    same_class: bool


class TextAugmenter:
    """Draws variants of training texts.

    Crossover continues a text, from one of its words on, as another text continues from that word: "what is my
    [balance]" and "tell me the [balance] of my account" give "what is my balance of my account".

    Args:
        taught: whether a teacher will label the variants, so that crossover may leave the class.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int], recipe: Recipe, taught: bool) -> None:
        self.words = [text.lower().split() for text in texts]
        self.labels, self.recipe = labels, recipe
        self.mixing = recipe.mixing if taught else 0.0
        self.vocabulary = [word for words in self.words for word in words]
        self.places: dict[tuple[int | None, str], list[tuple[int, int]]] = defaultdict(list)
        for row, words in enumerate(self.words):
            for place, word in enumerate(words):
                self.places[labels[row], word].append((row, place))
                if self.mixing:
                    self.places[None, word].append((row, place))

    def draw(self, row: int, rng: random.Random) -> Variant:
        """One variant of text `row`; never empty where the text was not."""
        words, luck = self.words[row], rng.random()
        mixed = luck < self.mixing
        if words and luck < self.mixing + self.recipe.crossover:
            words = self.crossed(row, None if mixed else self.labels[row], rng)
        return Variant(" ".join(self.noisy(words, rng)), not mixed)

    def crossed(self, row: int, label: int | None, rng: random.Random) -> list[str]:
        words = self.words[row]
        cut = rng.randrange(len(words))
        other, place = rng.choice(self.places[label, words[cut]])
        return words[:cut] + self.words[other][place:]

    def noisy(self, words: list[str], rng: random.Random) -> list[str]:
        kept = [word for word in words if rng.random() >= self.recipe.word_dropout] or words
        replacement = self.recipe.word_replacement
        return [rng.choice(self.vocabulary) if rng.random() < replacement else word for word in kept]

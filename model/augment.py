"""Augmentation of training texts, word by word: crossover within a class, and word dropout."""

import random
from collections import defaultdict
from collections.abc import Sequence


class TextAugmenter:
    """Draws variants of training texts that keep their class.

    Crossover continues a text, from one of its words on, as another text of the same class continues from that word:
    "what is my [balance]" and "tell me the [balance] of my account" give "what is my balance of my account".
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int], crossover: float, word_dropout: float) -> None:
        self.words = [text.lower().split() for text in texts]
        self.labels = labels
        self.crossover, self.word_dropout = crossover, word_dropout
        self.places: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        for row, words in enumerate(self.words):
            for place, word in enumerate(words):
                self.places[labels[row], word].append((row, place))

    def draw(self, row: int, rng: random.Random) -> str:
        """One variant of text `row`; never empty where the text was not."""
        words = self.words[row]
        if words and rng.random() < self.crossover:
            words = self.crossed(row, rng)
        kept = [word for word in words if rng.random() >= self.word_dropout]
        return " ".join(kept or words)

    def crossed(self, row: int, rng: random.Random) -> list[str]:
        words = self.words[row]
        cut = rng.randrange(len(words))
        other, place = rng.choice(self.places[self.labels[row], words[cut]])
        return words[:cut] + self.words[other][place:]

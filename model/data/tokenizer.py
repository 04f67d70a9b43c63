"""The tokenizer: byte-level BPE, lower-cased, trained on the training texts; and BPE-dropout for training."""

import json
import random
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from runtime.graph.texts import CHARACTERS_PER_TOKEN

LONG_WORD = 100  # characters; splitting takes quadratic time, and longer words are hardly words
PADDING = "[PAD]"  # id 0: what lies in a pack where no token is


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns a vocabulary: frequent words become one token; since every byte is a token, no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        max_token_length=CHARACTERS_PER_TOKEN,
        special_tokens=[PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class BpeDropout:
    """Splits words at random by skipping merges (Provilkov et al. 2020, arXiv:1910.13267), reproducibly.

    The `tokenizers` library has this dropout too, but draws from a generator that cannot be seeded. Each word keeps
    `variants` splits, drawn when it is first met.
    """

    def __init__(self, tokenizer: Tokenizer, probability: float, seed: int, variants: int = 16) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        self.tokenizer, self.probability, self.seed, self.variants = tokenizer, probability, seed, variants
        self.vocabulary: dict[str, int] = model["vocab"]
        self.ranks = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
        self.splits: dict[str, list[list[int]]] = {}

    def encode(self, text: str, rng: random.Random) -> list[int]:
        """Token ids of `text`, differently split at every call."""
        normal = self.tokenizer.normalizer.normalize_str(text)
        words = self.tokenizer.pre_tokenizer.pre_tokenize_str(normal)
        return [token for word, _ in words for token in rng.choice(self.splits.get(word) or self.draw(word))]

    def draw(self, word: str) -> list[list[int]]:
        if len(word) > LONG_WORD:
            self.splits[word] = [[token.id for token in self.tokenizer.model.tokenize(word)]]
            return self.splits[word]
        rng = random.Random(f"{self.seed}/{word}")
        self.splits[word] = [[self.vocabulary[part] for part in self.split(word, rng)] for _ in range(self.variants)]
        return self.splits[word]

    def split(self, word: str, rng: random.Random) -> list[str]:
        """Applies the merges in order of rank, each occurrence skipped with `probability`."""
        parts = list(word)
        while len(parts) > 1:
            merges = [
                (self.ranks[pair], i)
                for i, pair in enumerate(pairwise(parts))
                if pair in self.ranks and rng.random() >= self.probability
            ]
            if not merges:
                break
            _, i = min(merges)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return parts

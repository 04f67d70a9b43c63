from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.data import Dataset
from model.data.tokenizer import train_tokenizer
from model.network.encoder import Encoder
from model.training.examples import make_examples
from model.training.recipe import Recipe
from model.training.run import encoder_config, make_encoder
from model.training.trainer import Trainer


@pytest.fixture
def make_trainer(intents: Dataset, tiny: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer in a directory of its own, with the same weights as every other."""
    recipe = tiny(epochs=6, learning_rate=1e-2, dropout=0.0)
    tokenizer = train_tokenizer([str(text) for text in intents.train.inputs], recipe.vocab_size)
    encoder = make_encoder(intents, tokenizer, recipe.max_tokens)

    def make(name: str, **how: Any) -> Trainer:
        torch.manual_seed(recipe.seed)
        model = Encoder(encoder_config(recipe, intents, tokenizer))
        examples = make_examples(intents.train, recipe, encoder, len(intents.labels), [])
        (tmp_path / name).mkdir()
        size = len(intents.train)
        return Trainer(model, recipe, examples, size, intents.validation, encoder, tmp_path / name, **how)

    return make

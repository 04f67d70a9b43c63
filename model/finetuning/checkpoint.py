"""What a run keeps that began with a pretrained encoder; its directory is that of any run (model/training)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer
from torch import Tensor, nn

from model.network.encoder import EncoderOutput
from model.pretrained.families import family_of
from model.pretrained.files import digests
from model.pretrained.load import make_with_head
from model.pretrained.packed import PackedTransformer
from model.pretrained.source import Source
from model.training.checkpoint import DataInfo, load_info, load_tokenizer, load_weights
from model.training.recipe import FineTuning
from runtime.graph.texts import SpecialTokensEncoder
from runtime.manifest import PoolingKind


class PretrainedConfig(BaseModel):
    """The encoder that a run began with: enough to make its network again, for the run's own weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str
    """Its name."""
    sha256: dict[str, str]
    """Of its settings and weights: another model of the same name would make another run."""
    config: dict[str, Any]
    """config.json."""
    pooling: PoolingKind
    max_tokens: int
    strip: bool

    @classmethod
    def of(cls, directory: Path, source: Source) -> Self:
        return cls(
            directory=directory.resolve().name,
            sha256=digests(directory),
            config=source.config,
            pooling=source.pooling,
            max_tokens=source.max_tokens,
            strip=source.strip,
        )

    def source(self, directory: Path, labels: list[str], tokenizer: Tokenizer) -> Source:
        """The classifier of these labels, as a directory describes it; its weights are the run's."""
        model_type = str(self.config["model_type"])
        return Source(
            path=directory,
            config=self.config,
            model_type=model_type,
            task="classification",
            labels=labels,
            activation="softmax",
            pooling=self.pooling,
            normalize=True,
            strip=self.strip,
            dense=[],
            prompts={},
            default_prompt=None,
            max_tokens=self.max_tokens,
            tokenizer=tokenizer,
            type_ids=False,
            vocab_size=self.config["vocab_size"],
            position_offset=family_of(model_type).first_position(self.config),
        )


class FineTunedInfo(DataInfo):
    """What a run is, its recipe and what it began with."""

    recipe: FineTuning
    pretrained: PretrainedConfig


class FineTunedEncoder(nn.Module):
    """A pretrained encoder with a new head, as the trainer takes it."""

    def __init__(self, network: PackedTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids_PS: Tensor, position_ids_PS: Tensor, segment_ids_PS: Tensor, pooling: Tensor
    ) -> EncoderOutput:
        """Classifies R packed sequences; arguments as `PackedTransformer.forward`."""
        logits_RC, embedding_RD, _ = self.network(input_ids_PS, position_ids_PS, segment_ids_PS, pooling)
        return EncoderOutput(logits_RC, embedding_RD, [])

    @property
    def head(self) -> nn.Linear:
        assert isinstance(self.network.head, nn.Linear)
        return self.network.head


@dataclass(frozen=True, slots=True)
class FineTunedRun:
    """A run that is done, read from its directory.

    Attributes:
        model: the best weights, in evaluation mode.
        facts: what training noted beside the best weights: epoch, validation accuracy, ...
    """

    info: FineTunedInfo
    source: Source
    model: FineTunedEncoder
    facts: dict[str, Any]


def load_fine_tuned(directory: Path) -> FineTunedRun:
    """Reads a run.

    Raises:
        DataError: it is missing or unreadable; names the file.
    """
    info = load_info(directory, FineTunedInfo)
    source = info.pretrained.source(directory, info.labels, load_tokenizer(directory))
    model = FineTunedEncoder(make_with_head(source)).eval()
    facts = load_weights(model, directory)
    return FineTunedRun(info, source, model, facts)


def input_encoder(source: Source) -> SpecialTokensEncoder:
    """The encoder of texts that serving uses."""
    return SpecialTokensEncoder(Tokenizer.from_str(source.tokenizer.to_str()), source.inputs())

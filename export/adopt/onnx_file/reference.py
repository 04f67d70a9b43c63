"""What a file gives of its own, and what its norms see: one text at a time, pooled here in float64."""

# R rows, S tokens, D features, N valid tokens

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.expose import OUTPUT
from export.adopt.norms.probing import load, run, with_outputs
from export.adopt.onnx_file.source import Source
from export.adopt.parity import Expected
from runtime.graph.packing import Tokens, pad, token_weights


class FileReference:
    """The file with its statistics exposed, which left its own outputs as they were (norms/verify.py).

    Args:
        exposed: the model; its inputs are still the file's.
        tokens: name of the vectors of tokens, of which a text's embedding is made.
    """

    name = "the file's"

    def __init__(self, exposed: ir.Model, source: Source, tokens: str) -> None:
        self.source, self.tokens = source, tokens
        self.session = load(with_outputs(ir.to_proto(exposed), [source.output, tokens]).SerializeToString())

    def run(self, sequences: Sequence[Tokens]) -> Expected:
        found = [self.run_one(sequence) for sequence in sequences]
        answers = {name: np.concatenate([one.answers[name] for one in found]) for name in found[0].answers}
        return Expected(answers, np.concatenate([one.norm_statistics for one in found]))

    def run_one(self, sequence: Tokens) -> Expected:
        source, batch = self.source, pad([sequence])
        found = run(self.session, source.file.feeds(batch, source.type_ids))
        answers: dict[str, NDArray[np.float64]] = {}
        if source.task != "embedding":
            answers["logits"] = found[source.output].astype(np.float64)
        vectors = found[self.tokens].astype(np.float64)
        answers["embedding"] = self.pool(vectors[0]) if vectors.ndim == 3 else vectors
        return Expected(answers, found[OUTPUT][0].astype(np.float64))

    def pool(self, tokens_SD: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.source.pooling == "max":
            maximum: NDArray[np.float64] = tokens_SD.max(0, keepdims=True)
            return maximum
        position = np.arange(len(tokens_SD))
        weights = token_weights(self.source.pooling, position, np.full(len(position), len(position)))
        return weights[np.newaxis].astype(np.float64) @ tokens_SD

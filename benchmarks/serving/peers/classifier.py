"""What every peer's handler does with texts: tokenize, one run of the graph on a padded batch, label and score.

Runs in each peer's own environment: onnxruntime, tokenizers and numpy are all it needs. The graph is the served one,
with the plan that is fastest on a CPU (runtime/graph/session.py); a padded batch is the case of one segment per pack.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

MODEL_VARIABLE, PORT_VARIABLE = "BENCH_MODEL", "BENCH_PORT"


class Classifier:
    """An artifact's tokenizer and graph; ready, and warm, once constructed."""

    def __init__(self, path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        self.labels: list[str] = manifest["labels"]
        self.max_tokens: int = manifest["inputs"]["max_tokens"]
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            str(path / "model.onnx"),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )
        self.classify(["warm", "warm up"])

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The label and its probability for every text, in one run."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [encoding.ids[: self.max_tokens] for encoding in encodings]
        (logits,) = self.session.run(["logits"], one_row(ids[0]) if len(ids) == 1 else padded(ids))
        best = logits.argmax(1)
        scores = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
        return [(self.labels[label], score) for label, score in zip(best.tolist(), scores.tolist(), strict=True)]


def one_row(ids: list[int]) -> dict[str, NDArray[np.generic]]:
    length = len(ids)
    return {
        "input_ids": np.array([ids]),
        "position_ids": np.arange(length)[None],
        "segment_ids": np.ones((1, length), dtype=np.int64),
        "pooling": np.full((1, length), 1 / length, dtype=np.float32),
    }


def padded(ids: list[list[int]]) -> dict[str, NDArray[np.generic]]:
    """One text per pack, every pack as wide as the longest text."""
    lengths = np.array([len(row) for row in ids])
    rows, width = len(ids), int(lengths.max())
    position = np.arange(width)
    valid = position < lengths[:, None]
    input_ids = np.zeros((rows, width), dtype=np.int64)
    input_ids[valid] = [token for row in ids for token in row]
    pooling = np.zeros((rows, rows, width), dtype=np.float32)
    pooling[np.arange(rows), np.arange(rows)] = valid / lengths[:, None]
    return {
        "input_ids": input_ids,
        "position_ids": np.where(valid, position, 0),
        "segment_ids": np.where(valid, np.arange(1, rows + 1)[:, None], 0),
        "pooling": pooling.reshape(rows, rows * width),
    }


def load() -> Classifier:
    """The classifier of the artifact that the benchmark names."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return Classifier(Path(os.environ[MODEL_VARIABLE]))


def port() -> int:
    return int(os.environ[PORT_VARIABLE])

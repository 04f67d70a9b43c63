"""clinc150: 150 chat-bot intents (Larson et al., EMNLP-IJCNLP 2019), CC BY 3.0.

15,000 training, 3,000 validation and 4,500 test queries; the out-of-scope queries are left aside.
"""

import json
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, Split
from model.data.download import RemoteFile, fetch

SOURCE = "clinc150, Larson et al. 2019, github.com/clinc/oos-eval, CC BY 3.0"
FILE = RemoteFile(
    path="clinc150/data_full.json",
    url="https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json",
    sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
)


def load(data: Path) -> Dataset:
    """Reads clinc150 from `data`/clinc150, downloading it first where it is missing."""
    raw = json.loads(fetch(FILE, data).read_text(encoding="utf-8"))
    names = sorted({label for _, label in raw["train"]})
    index = {name: i for i, name in enumerate(names)}

    def split(key: str) -> Split:
        return Split([text for text, _ in raw[key]], np.array([index[label] for _, label in raw[key]], dtype=np.int64))

    return Dataset("clinc150", SOURCE, names, split("train"), split("val"), split("test"))

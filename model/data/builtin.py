"""The data sets that are known by their names: clinc150 and digits."""

import json
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, Split, split_rows
from model.data.download import RemoteFile, fetch

CLINC150_SOURCE = "clinc150, Larson et al. 2019, github.com/clinc/oos-eval, CC BY 3.0"
CLINC150_FILE = RemoteFile(
    path="clinc150/data_full.json",
    url="https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json",
    sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
)
DIGITS_SOURCE = (
    "UCI optical recognition of handwritten digits, Alpaydin & Kaynak 1998, as shipped with scikit-learn, CC BY 4.0"
)


def load_clinc150(data: Path) -> Dataset:
    """150 chat-bot intents (Larson et al., EMNLP-IJCNLP 2019) from `data`/clinc150; downloaded where they are missing.

    15,000 training, 3,000 validation and 4,500 test queries; the out-of-scope queries are left out.
    """
    raw = json.loads(fetch(CLINC150_FILE, data).read_text(encoding="utf-8"))
    names = sorted({label for _, label in raw["train"]})
    index = {name: i for i, name in enumerate(names)}

    def split(key: str) -> Split:
        return Split([text for text, _ in raw[key]], np.array([index[label] for _, label in raw[key]], dtype=np.int64))

    train, validation, test = (split(key) for key in ("train", "val", "test"))
    return Dataset("clinc150", CLINC150_SOURCE, names, train, validation, test, official_test=True)


def load_digits() -> Dataset:
    """scikit-learn's 1,797 scans of handwritten digits, each read as 8 rows of 8 grey values in [0, 1]."""
    from sklearn import datasets

    scans = datasets.load_digits()
    images = (scans.images / 16).astype(np.float32)
    return split_rows("digits", DIGITS_SOURCE, list(images), [str(label) for label in scans.target])

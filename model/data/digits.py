"""digits: scikit-learn's 1,797 real scans of handwritten digits, each read as 8 rows of 8 grey values in [0, 1]."""

import numpy as np
from sklearn.datasets import load_digits

from model.data.dataset import Dataset, split_rows

SOURCE = (
    "UCI optical recognition of handwritten digits, Alpaydin & Kaynak 1998, as shipped with scikit-learn, CC BY 4.0"
)


def load() -> Dataset:
    """Reads the scans that scikit-learn carries; nothing is downloaded."""
    scans = load_digits()
    images = (scans.images / 16).astype(np.float32)
    return split_rows("digits", SOURCE, list(images), [str(label) for label in scans.target])

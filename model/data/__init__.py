"""Data sets by name: `clinc150`, `digits`, or the path of a CSV or JSONL file."""

from pathlib import Path

from model.data.dataset import Dataset, Split
from runtime.errors import DataError

__all__ = ["Dataset", "Split", "load_dataset"]


def load_dataset(name: str, data: Path, text_column: str = "text", label_column: str = "label") -> Dataset:
    """Loads a data set.

    Args:
        name: `clinc150`, `digits`, or the path of a CSV or JSONL file.
        data: folder where downloaded data sets are kept.
        text_column: column of a CSV or JSONL file that holds the text.
        label_column: column that holds the class.

    Raises:
        DataError: it cannot be found or used; one sentence says why.
    """
    from model.data import builtin, table  # scikit-learn takes a second to import

    path = Path(name)
    if name == "clinc150":
        return builtin.load_clinc150(data)
    if name == "digits":
        return builtin.load_digits()
    if path.suffix.lower() in table.FORMATS:
        return table.load(path, text_column, label_column)
    raise DataError(f"{name!r} is not a data set: expected clinc150, digits, or a file that ends in .csv or .jsonl.")

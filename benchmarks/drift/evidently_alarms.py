"""Evidently's verdict on windows of traffic, in Evidently's own environment: it imports nothing of this project.

    python evidently_alarms.py WINDOWS.npz OPTIONS      benchmarks/drift/judges.py runs it

The file holds `validation` [R, K], all `windows` one after another [sum of n, K], and their `sizes` [W]. OPTIONS are
DataDriftPreset's, as JSON. Prints a JSON list: of each window, whether Evidently calls the data set drifted.
"""

import json
import sys

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount
from evidently.presets import DataDriftPreset


def main(path: str, options: dict[str, object]) -> None:
    data = np.load(path)
    reference = dataset(data["validation"])
    windows = [dataset(window) for window in np.split(data["windows"], np.cumsum(data["sizes"])[:-1])]
    # The preset draws a chart of every column, in a dozen times the time. Its verdict is this metric of it.
    verdict = Report([DriftedColumnsCount(**options)], include_tests=True)
    preset = Report([DataDriftPreset(**options)], include_tests=True)
    assert alarm(preset, windows[0], reference) == alarm(verdict, windows[0], reference)
    print(json.dumps([alarm(verdict, window, reference) for window in windows]))


def dataset(values: np.ndarray) -> Dataset:
    names = [str(number) for number in range(values.shape[1])]
    return Dataset.from_pandas(
        pd.DataFrame(values, columns=names), data_definition=DataDefinition(numerical_columns=names)
    )


def alarm(report: Report, window: Dataset, reference: Dataset) -> bool:
    """Whether the report's first test, on the share of drifted columns, fails."""
    return str(report.run(window, reference).dict()["tests"][0]["status"].value) == "FAIL"


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

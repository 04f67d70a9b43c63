"""ONNX files are adopted in the serving image: with the packages of requirements/serve.txt, and no other."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from tests.adopted import make_texts
from tests.export.adopt.onnx_file.files import save, tiny, with_head

ROOT = Path(__file__).parents[3]
ADOPT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in REFUSED else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
from addnorm.cli import main
main()
"""


def not_served() -> set[str]:
    """Modules that are installed here, and not in the serving image."""
    lock = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "serve.txt").read_text(), re.M)
    served = {name.lower().replace("_", "-") for name in lock} | {"addnorm", "addnorm-client"}
    return {
        module
        for module, packages in packages_distributions().items()
        if not served & {package.lower().replace("_", "-") for package in packages}
    }


@pytest.mark.parametrize("labelled", [False, True])
def test_a_file_is_adopted_with_the_packages_of_the_serving_image(tmp_path: Path, labelled: bool) -> None:
    refused = not_served()
    assert {"torch", "transformers", "sklearn", "scipy"} <= refused and not {"onnx", "onnxruntime", "numpy"} & refused
    path = save(tmp_path, with_head(tiny(), 3)[0] if labelled else tiny())
    rows = [f"{text},{'abc'[place % 3]}" for place, text in enumerate(make_texts(320))]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    options = ["--labels", tmp_path / "labels.txt", "--label", "label"] if labelled else ["--pooling", "mean"]
    command = [sys.executable, "-c", f"REFUSED = {refused!r}{ADOPT}", "adopt", path, "--text", "text", *options]
    target = ["--baseline", tmp_path / "texts.csv", "--name", "mine", "--version", "1", "--models", tmp_path / "models"]
    done = subprocess.run([*map(str, [*command, *target])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    baseline = read_baseline(read_artifact(tmp_path / "models" / "mine" / "1"))
    assert baseline.reference is not None  # it was calibrated, too


def test_the_probability_of_being_right_is_fitted_as_scikit_learn_does() -> None:
    from sklearn.linear_model import LogisticRegression

    from export.reference import WEAK, fit_logistic

    rng = np.random.default_rng(0)
    for slope, rows in ((0.5, 60), (2.0, 3000), (40.0, 500), (1e6, 60)):  # at last all are told apart
        x = 3 * rng.standard_normal(rows) + 1
        right = rng.uniform(size=rows) < 1 / (1 + np.exp(-np.clip(slope * x, -500, 500)))
        known = LogisticRegression(C=1 / WEAK, tol=1e-12, max_iter=100_000).fit(x[:, None], right)
        expected = [known.coef_[0, 0], known.intercept_[0]]
        np.testing.assert_allclose(fit_logistic(x, right), expected, rtol=1e-4, atol=1e-4)

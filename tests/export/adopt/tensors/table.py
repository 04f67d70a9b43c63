"""`python -m tests.export.adopt.tensors.table`: the table of docs/adopt.md, of networks that read tensors."""

import tempfile
from pathlib import Path

from tests.export.adopt.tensors.networks import CASES, adopt, exported

OPSETS = {
    "image": (11, 17, 23),
    "groups": (11, 17),
    "patches": (13, 17),
    "series": (17, 18),
    "table": (11, 17),
    "pair": (17,),
    "half": (17,),
}


def main() -> None:
    print("| network | opset | norms | statistics | outputs | together against alone |\n|---|---|---|---|---|---|")
    for name in CASES:
        for opset in OPSETS[name]:
            with tempfile.TemporaryDirectory() as folder:
                adopted = adopt(Path(folder), name, exported(name, opset), rows=64)
            kinds = ", ".join(f"{layer.kind} of a {layer.unit}" for layer in adopted.artifact.manifest.layers)
            errors = " | ".join(f"{adopted.errors[key]:.0e}" for key in ("norm_statistics", "outputs", "together"))
            print(f"| {name} | {opset} | {kinds} | {errors} |")


if __name__ == "__main__":
    main()

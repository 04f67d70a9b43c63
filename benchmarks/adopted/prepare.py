"""Makes what is measured, in a process of its own so that the one that measures keeps little memory.

    python -m benchmarks.adopted.prepare MODEL TEXTS [ARTIFACT]

The model's directory with its longest texts allowed, its artifact by `addnorm adopt`, a plain ONNX export for the
server that pads, and the workloads with the embeddings that are expected. All is kept below .bench/adopted/ and made
anew when the model, the texts or the code that adopts changed.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.adopted.workloads import (
    IN_BF16,
    LENGTHS,
    PLAIN,
    ROOT,
    SHORT,
    SOURCE,
    WORK,
    WORKLOADS,
    Prepared,
    make_workload,
    read_lines,
)
from runtime.artifact import read_artifact
from runtime.graph.batch import unit
from runtime.graph.encoder import Encoder
from runtime.graph.openvino_session import why_not
from runtime.graph.texts import make_input_encoder

NAME, MODELS, STAMP = "adopted", WORK / "models", WORK / "made-by"
OPSET, INPUTS = 18, ["input_ids", "attention_mask", "token_type_ids"]


def prepare(model: Path, texts: Path, artifact: Path | None = None) -> Path:
    """Everything, where something changed; returns the artifact's directory.

    Args:
        artifact: one that was adopted before, in the place of a new one.
    """
    found = artifact or MODELS / NAME / "1"
    stamp = describe(model, texts, artifact)
    if STAMP.exists() and STAMP.read_text() == stamp:
        return found
    STAMP.unlink(missing_ok=True)
    link_source(model)
    if artifact is None:
        adopt(texts, "1")
        if not why_not():
            adopt(texts, IN_BF16, "--precision", "bf16")
    export_plain()
    write_workloads(found, read_lines(texts))
    STAMP.write_text(stamp)
    return found


def describe(model: Path, texts: Path, artifact: Path | None) -> str:
    """A digest of all that the results are made from."""
    digest = hashlib.sha256(texts.read_bytes())
    code = [Path(__file__), Path(__file__).with_name("workloads.py")]
    code += [] if artifact else sorted(path for name in ("export", "runtime") for path in (ROOT / name).rglob("*.py"))
    for path in code:
        digest.update(path.read_bytes())
    for path in sorted(model.rglob("*.json")):
        digest.update(path.read_bytes())
    weights = (model / "model.safetensors").stat()
    digest.update(f"{weights.st_size} {weights.st_mtime_ns}".encode())
    if artifact:
        digest.update((artifact / "manifest.json").read_bytes())
    return digest.hexdigest()


def link_source(model: Path) -> None:
    """The model's directory, but with texts as long as its positions allow, for this service and all others."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for path in model.resolve().iterdir():
        if path.is_file():
            (SOURCE / path.name).symlink_to(path)
    modules = model / "modules.json"
    for module in json.loads(modules.read_text()) if modules.exists() else ():
        if module["path"] and (model / module["path"]).is_dir():
            shutil.copytree(model / module["path"], SOURCE / module["path"])
    config = SOURCE / "sentence_bert_config.json"
    described = json.loads(config.read_text()) if config.exists() else {}
    described["max_seq_length"] = json.loads((SOURCE / "config.json").read_text())["max_position_embeddings"]
    config.unlink(missing_ok=True)
    config.write_text(json.dumps(described))


def adopt(texts: Path, version: str, *options: str) -> None:
    command = [sys.executable, "-m", "addnorm", "adopt", str(SOURCE), "--baseline", str(texts.resolve())]
    command += ["--models", str(MODELS), "--name", NAME, "--version", version, "--overwrite", *options]
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode:
        raise SystemExit("The model was not adopted; why is above.")


def export_plain() -> None:
    """The encoder as torch.onnx.export writes it: token ids, mask and types in, the last hidden state out."""
    import torch
    from transformers import AutoModel

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(SOURCE)

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.encoder(**dict(zip(INPUTS, tensors, strict=True))).last_hidden_state
            return hidden

    ids = torch.ones(2, 8, dtype=torch.int64)
    torch.onnx.export(
        Plain().eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        PLAIN,
        input_names=INPUTS,
        output_names=["hidden"],
        dynamic_shapes=(({0: "batch", 1: "tokens"},) * len(INPUTS),),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


def write_workloads(artifact: Path, questions: list[str]) -> None:
    """Every workload that the model can read, with the embeddings that the artifact gives one by one."""
    loaded = read_artifact(artifact)
    inputs, encoder = make_input_encoder(loaded), Encoder(loaded)
    counter = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    counter.no_truncation()
    counter.no_padding()
    shutil.rmtree(WORKLOADS, ignore_errors=True)
    for name in (SHORT, *LENGTHS):
        if name != SHORT and LENGTHS[name][1] > loaded.manifest.inputs.max_tokens:
            print(f"{name} tokens are not measured: the artifact reads {loaded.manifest.inputs.max_tokens}.")
            continue
        texts = make_workload(name, questions, lambda text: len(counter.encode(text).ids))
        sequences = [item.tokens for item in inputs.encode(texts)]
        embeddings = np.concatenate([encoder.run([sequence]).embedding for sequence in sequences])
        tokens = np.array([len(sequence) for sequence in sequences])
        Prepared(texts, tokens, unit(embeddings)).write(name)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # the only line of its own is where the artifact lies
        found = prepare(*map(Path, sys.argv[1:]))
    print(found)

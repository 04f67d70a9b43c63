"""The measuring part: what it counts, and that it runs where nothing but torch, numpy and onnxruntime is installed."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main, parser, settle
from benchmarks.gpu.batches import even
from benchmarks.gpu.bounds import Work, inference_work, shortest, training_flops
from benchmarks.gpu.network import Shape
from benchmarks.gpu.sessions import Graph, make_weights
from benchmarks.gpu.settings import Report, Setting, cells
from benchmarks.gpu.tables import aligned
from benchmarks.gpu.timing import Effort, in_turns, percentile, ratio, working
from benchmarks.gpu.training import train

BERT = Shape(768, 12, 12, 3072, num_classes=2, max_tokens=512, vocab_size=30522)
TINY = Shape(32, 2, 2, 48, num_classes=5, max_tokens=40, vocab_size=60)
ALONE = '''
import sys
from pathlib import Path

REFUSED = {"pydantic", "pydantic_settings", "onnx", "onnx_ir", "onnxscript", "fastapi", "rich", "scipy",
           "runtime", "model", "export", "service", "addnorm", "studies"}

class Without:
    """A finder for which the refused packages are not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in REFUSED else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
from benchmarks.gpu import ceilings, settings
ceilings.SECONDS["cpu"] = settings.SECONDS["cpu"]["quick"] = 0.02
ceilings.SIZES["cpu"], ceilings.HALF_SIZES["cpu"], ceilings.COPIED["cpu"] = (64,), (64,), 1 << 20
from benchmarks.gpu.__main__ import main
main(["--graphs", sys.argv[1], "--device", "cpu", "--quick", "--json", sys.argv[2], *sys.argv[3:]])
ours = {name.partition(".")[0] for name in sys.modules} & REFUSED
assert not ours, ours
others = [name for name in sys.modules if name.startswith("benchmarks.") and not name.startswith("benchmarks.gpu")]
assert not others, others
'''


def test_everything_runs_without_other_packages(tiny_folder: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tiny_folder), str(found), "--part", "parity", "--part", "speed"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(found.read_text())
    assert content["device"] == content["provider"] == "cpu"
    assert "No GPU is measured" in done.stdout
    assert len(content["parity"]) == 4  # two precisions, two plans
    assert all(entry["statistics_filled"] for entry in content["parity"])
    assert {(entry["rows"], entry["tokens"]) for entry in content["speed"]} >= {(1, 16), (32, 16)}
    assert all(len(entry["variants"]) == 5 for entry in content["speed"])  # two plans, bare and not, and torch
    assert all(ratio["median"] > 0 for entry in content["speed"] for ratio in entry["ratios"].values())
    assert {item["what"] for item in content["not_run"]} >= {"ceiling tf32", "torch compile"}


def test_training_counts_tokens_and_flops() -> None:
    setting = Setting("cpu", "cpu", 1, "quick", math.inf)
    (((entry,), missing),) = train("tiny", TINY, make_weights(TINY), setting, {"cpu": {"fp32": 1e9}}, "no compiler")
    found = entry["variants"]["eager"]
    assert found["rounds"] >= 3
    assert math.isclose(found["tokens_per_s"] * found["median_s"], 8 * 16)
    assert math.isclose(found["of_ceiling"] * 1e9 * found["median_s"], training_flops(TINY, 8, 16))
    assert not missing


def test_time_that_is_up_begins_nothing() -> None:
    setting = Setting("cpu", "cpu", 1, "quick", 0.0)
    found = list(train("tiny", TINY, make_weights(TINY), setting, {"cpu": {"fp32": 1e9}}, ""))
    assert not any(entries for entries, _ in found)
    (compiled,), (begun,) = (missing for _, missing in found)
    assert compiled["what"] == "training compile tiny"
    assert begun["why"] == "time is up"


def test_flops_of_bert_are_those_of_its_matrices_and_of_attention() -> None:
    work = inference_work(BERT, even(2, 128, 30522), "fp16")
    blocks = 2 * 12 * (4 * 768**2 + 2 * 768 * 3072) * 256 + 4 * 2 * 128**2 * 768 * 12
    assert work.flops == blocks + 2 * 2 * 768 * (256 + 2)
    assert work.fed == 3 * 8 * 256 + 4 * 2 * 256
    assert training_flops(BERT, 2, 128) == 3 * work.flops


def test_the_ceiling_that_is_reached_last_binds() -> None:
    work = Work(flops=1e12, moved=1e9, fed=1e8)
    assert shortest(work, 1e12, 1e10, None) == shortest(work, 1e12, 1e10, 1e9)
    assert shortest(work, 1e12, 1e10, None).binds == "matmul"
    assert shortest(work, 1e15, 1e10, None).binds == "copy"
    assert shortest(work, 1e15, 1e12, 1e8).binds == "feed"


def test_batches_that_are_left_out_are_named() -> None:
    found, left_out = cells(BERT, "cuda", "full")
    assert (512, 128) in found
    assert [cut for each in left_out.values() for cut in each] == [(512, 512)]
    few, _ = cells(BERT, "cpu", "quick")
    assert few == [(1, 16)]
    short, _ = cells(Shape(32, 2, 2, 48, num_classes=5, max_tokens=48, vocab_size=60), "cuda", "full")
    assert {tokens for _, tokens in short} == {16, 48}


def test_what_fails_is_left_out_with_its_reason() -> None:
    def fail() -> None:
        raise MemoryError("too large\nfor this card")

    able, failed = working({"good": lambda: None, "bad": fail})
    assert list(able) == ["good"]
    assert failed == {"bad": "MemoryError: too large"}


def test_variants_take_turns() -> None:
    order: list[str] = []
    times = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, Effort(0.0, fewest=2))
    assert order == ["a", "b", "b", "a"]
    assert {len(seconds) for seconds in times.values()} == {2}


def test_percentiles_and_ratios() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.99) == 99
    assert percentile(values, 0.1) == 10
    assert percentile([3.0], 0.99) == 3
    assert math.isclose(ratio([2, 4, 9], [1, 2, 3]).median, 2)


def test_tables_have_columns_of_one_width() -> None:
    assert aligned("t", ["name", "n"], [["a", "10"], ["long name", "1"]]).splitlines() == [
        "t",
        "name        n",
        "-------------",
        "a          10",
        "long name   1",
    ]


def test_a_report_is_written_after_every_step(tmp_path: Path) -> None:
    report = Report(tmp_path / "found.json")
    report.add("speed", [{"network": "a"}], [{"what": "b", "why": "c"}])
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["speed"] == [{"network": "a"}]
    assert written["not_run"] == [{"what": "b", "why": "c"}]


def test_a_gpu_that_there_is_not_is_refused(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch finds no GPU"):
        main(["--graphs", str(tiny_folder), "--device", "cuda"])


@pytest.mark.parametrize("available", [["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]])
def test_onnxruntime_without_cuda_runs_on_the_cpu_and_says_so(
    available: list[str], tiny_graphs: dict[str, Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no library")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None)
    monkeypatch.setattr("benchmarks.gpu.__main__.open_session", fail)
    setting, note = settle(parser().parse_args(["--graphs", "graphs"]), tiny_graphs["tiny-fp32"])
    assert (setting.device, setting.provider) == ("cuda", "cpu")
    assert "CUDAExecutionProvider cannot be had (" in note
    assert "all rows of ONNX are the CPU's" in note
    assert ("no library" in note) == (len(available) == 2)

"""Pictures of the page over a made-up day of real texts: clinc150's, and from half an hour ago some that nobody taught.

python -m benchmarks.pictures.page DATA SHOTS            every view, light, dark, desktop, phone, into SHOTS
python -m benchmarks.pictures.page DATA SHOTS --write    draws docs/img/page.png again, from the same traffic

Needs Playwright's Python package and a Chromium (CHROMIUM=, else /usr/bin/chromium).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from benchmarks.drift.traffic import texts
from runtime.artifact import read_artifact
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import pack
from runtime.graph.texts import make_input_encoder
from runtime.statistics.deep import measure
from service.norm_stats.collector import Collector
from service.settings import EMBEDDED, Settings

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "img" / "page.png"
PAST, STEP, SINCE = 6 * 3600, 5, 1500  # seconds of traffic, between its batches, and since when some of it is odd
ODD = 0.35  # share of odd texts from then on
VIEWS = ("verdict", "try", "layers/blocks.1.feed_forward.norm", "traffic")
SIZES = {"desktop": (1280, 860), "phone": (360, 780)}
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
QUESTION = "der schnelle braune fuchs springt über den faulen hund"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with clinc150/ and banking77/")
    parser.add_argument("shots", type=Path, help="folder for the pictures")
    parser.add_argument("--write", action="store_true", help="draw docs/img/page.png")
    parser.add_argument("--calm", action="store_true", help="without odd texts")
    arguments = parser.parse_args()
    arguments.shots.mkdir(parents=True, exist_ok=True)
    clinc = json.loads((arguments.data / "clinc150" / "data_full.json").read_text())
    kinds = texts(clinc, arguments.data)
    with tempfile.TemporaryDirectory() as state:
        record(Path(state), kinds["test"], kinds["test" if arguments.calm else "banking77"])
        with serving("--state", state) as url:
            recent = kinds["test"][:130] + kinds["test" if arguments.calm else "banking77"][:70]
            send(url, recent)
            if arguments.write:
                shoot(url, {PICTURE: ("verdict", "light", "desktop")})
            else:
                shoot(url, {arguments.shots / name: shot for name, shot in all_shots().items()})


def all_shots() -> dict[str, tuple[str, str, str]]:
    return {
        f"{view.split('/')[0]}-{theme}-{size}.png": (view, theme, size)
        for view in VIEWS
        for theme in ("light", "dark")
        for size in SIZES
    }


def record(directory: Path, usual: list[str], odd: list[str]) -> None:
    """Writes the statistics of a few hours that end now, as a service would have kept them."""
    settings = Settings(device="cpu", state=directory)
    artifact = read_artifact(settings.model)
    collector, encoder, inputs = Collector(artifact, settings), Encoder(artifact), make_input_encoder(artifact)
    deep, rng = DeepGraph(artifact, encoder), np.random.default_rng(4)
    encoded = {kind: [item.tokens for item in inputs.encode(lines)] for kind, lines in (("usual", usual), ("odd", odd))}
    recorder, end = collector.recorder, collector.recorder.clock()
    now = [end - PAST]
    recorder.since, recorder.clock = now[0], lambda: now[0]
    while now[0] < end:
        share = ODD if end - now[0] < SINCE else 0.0
        busy = 1.5 + np.sin(now[0] / 2400)  # traffic comes and goes
        kinds = ["odd" if rng.random() < share else "usual" for _ in range(1 + rng.poisson(3 * busy))]
        chosen = [encoded[kind][rng.integers(len(encoded[kind]))] for kind in kinds]
        collector.observe(encoder.run(chosen), 0.0)
        if rng.random() < 0.1:
            collector.observe_deep(measure(deep.run, pack(chosen[:4])), 0.0)
        now[0] += STEP
    collector.keep()
    collector.close()


@contextmanager
def serving(*options: str, model: Path | None = EMBEDDED, port: int = 0) -> Iterator[str]:
    """The address of a service in a process of its own, of one model; None: of those that are served by default."""
    command = [sys.executable, "-m", "addnorm", "serve", "--port", str(port), "--workers", "1", "--device", "cpu"]
    command += [*(["--model", str(model)] if model else []), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            yield next(found[1] for line in process.stdout if (found := re.search(r"serves at (\S+) ", line)))
        finally:
            process.terminate()
            process.wait(20)


def send(url: str, lines: list[str]) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        for line in lines:
            client.post("/predict", json={"inputs": line}).raise_for_status()


def shoot(url: str, shots: dict[Path, tuple[str, str, str]]) -> None:
    """Takes pictures: view, theme and size of each."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for path, (view, theme, size) in shots.items():
            width, height = SIZES[size]
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
            )
            page.on("console", lambda message: print(message.type, message.text))
            page.on("pageerror", lambda error: print("error", error))
            page.goto(f"{url}/?window=1h#{view}")
            page.wait_for_selector("body[data-ready]")
            if view == "try":
                page.get_by_label("Text").fill(QUESTION)
                page.get_by_role("button", name="Ask").click()
                page.wait_for_selector("[data-answer]")
            if view == "traffic":
                send(url, [QUESTION] * 60)
            page.wait_for_timeout(2600 if view == "traffic" else 900)
            page.screenshot(path=path, full_page=path != PICTURE)
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                print(f"{path.name}: {overflow} pixels too wide")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()

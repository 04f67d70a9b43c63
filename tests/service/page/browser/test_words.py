"""Sentences and numbers of the page, as its own modules write them; and how its map of layers is coloured."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.browser.browsing import Watched, needs_chromium

pytestmark = needs_chromium
DRIFT = {"state": "drift", "since": None, "first_layer": "input", "classes": []}


def call(page: Page, name: str, *arguments: Any, module: str = "words") -> Any:
    script = "([module, name, given]) => import(`/page/${module}.js`).then((all) => all[name](...given))"
    return page.evaluate(script, [module, name, arguments])


def summary(verdict: dict[str, Any], requests: int = 40, **more: Any) -> dict[str, Any]:
    window = {"requests": requests}
    return {"verdict": verdict, "window": window, "requests": requests, "needed": 30, "asked": "1h", "input": {}} | more


def test_numbers_and_sentences_are_unambiguous(busy: str, watched: Watched):
    page = watched.page
    page.goto(busy)
    assert call(page, "num", -8.67e-5) == "−8.67e−5"
    assert call(page, "ofLimit", 15.94, 15.92) == "15.94 of 15.92"
    assert call(page, "ofLimit", 16.2, 15.94) == "16.2 of 15.9"
    assert [call(page, "shortName", name) for name in ("0", "bn1")] == ["norm 0", "bn1"]
    numbered = summary(DRIFT | {"first_layer": "1"})
    assert call(page, "headline", numbered) == "Drift over the last hour, first at norm 1"
    assert "topics" not in call(page, "advice", summary(DRIFT))
    for unsure in ("output", "unlikeness"):
        assert "another language, or new topics." in call(
            page, "advice", summary(DRIFT, **{unsure: {"state": "drift"}})
        )
    repeated = summary({"state": "insufficient_data"})
    assert call(page, "headline", repeated).endswith("too few different ones to judge")
    assert call(page, "advice", repeated).startswith("Send it different requests")
    assert call(page, "advice", summary({"state": "insufficient_data"}, 3)).startswith("Send it some requests")
    unlike = {"unlike": 0.3, "would_show": 0.2, "estimated_accuracy": 0.9, "classes": [], "most_repeated": 0.0}
    assert call(page, "facts", {"verdict": unlike})[0].startswith("Very roughly 30 % of the requests are unlike")
    unknown = unlike | {"estimated_accuracy": None}  # perhaps an embedding model's
    assert len(call(page, "facts", {"verdict": unknown})) == 1


SINGLE = {"none": "is kept nowhere", "scores": "log the scores", "texts": "log it, with what you type"}
WITHOUT = SINGLE | {"texts": "What you type is kept nowhere; the service may log the scores"}
NEVER = dict.fromkeys(SINGLE, "It counts as traffic, and is kept nowhere.")
ALONE = NEVER | {
    "scores": "of one line alone, the service may log how long",
    "texts": "one line alone the service may log, with",
}
VECTOR = NEVER | dict.fromkeys(("scores", "texts"), "What you type is kept nowhere; the service may log how long")


@pytest.mark.parametrize(
    ("task", "inputs", "kept"),
    [
        ("classification", {"kind": "text"}, SINGLE),
        ("classification", {"kind": "text", "pairs": True}, WITHOUT),  # of pairs no text is logged
        ("classification", {"kind": "features"}, WITHOUT),
        ("classification", {"kind": "tensors"}, WITHOUT),
        ("embedding", {"kind": "text"}, ALONE),  # /similarity logs nothing, and /embed does
        ("embedding", {"kind": "tensors"}, VECTOR),
        ("rerank", {"kind": "text"}, NEVER),
    ],
)
def test_what_is_kept_is_said_of_each_kind_of_request(
    busy: str, watched: Watched, task: str, inputs: dict[str, Any], kept: dict[str, str]
):
    watched.page.goto(busy)
    for log, words in kept.items():
        model = {"task": task, "inputs": inputs, "input_log": log}
        assert words in call(watched.page, "keptOf", model, module="asks")


MAP = """([module, slices, width]) => import(module).then(({ heatmap }) => {
  const from = Date.parse("2026-11-27T10:00:00Z");
  const time = (x) => new Date(from + 10_000 * x).toISOString();
  const slice = (x) => ({ from: time(x), requests: 9, state: "drift", departures: x ? [1.5] : null });
  const known = Array.from({ length: slices }, (_, x) => slice(x));
  const history = { from: time(0), to: time(slices), slice_seconds: 10, rows: ["input"], slices: known };
  const { option, rows } = heatmap("").describe(history, width);
  const [few, ...others] = option.series[0].data;
  const signs = others.filter((each) => each.label.show).length;
  return { hatched: Boolean(few.itemStyle?.decal), signs, at: rows.map(([at]) => at) };
})"""


def test_map_has_signs_on_phones_and_seconds_where_slices_are_short(busy: str, watched: Watched):
    watched.page.goto(busy)
    wide = watched.page.evaluate(MAP, ["/page/heatmap.js", 6, 900])
    phone = watched.page.evaluate(MAP, ["/page/heatmap.js", 60, 330])
    assert wide["hatched"] and wide["signs"] == 5 and len(set(wide["at"])) == 6
    assert 5 <= phone["signs"] < 30


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signs_stand_out_and_few_requests_are_hatched(busy: str, watched: Watched, theme: str):
    page = watched.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(busy)
    expect(page.locator("body[data-ready]")).to_be_attached()
    for step in ("heat-2", "heat-3", "heat-4"):
        sign = page.locator(f".legend .{step}")
        expect(sign).to_have_text("▲")
        style = sign.evaluate("each => [getComputedStyle(each).color, getComputedStyle(each).backgroundColor]")
        assert contrast(*style) > 4.5, (step, style)
    hatched = page.locator(".legend .heat-none").evaluate("each => getComputedStyle(each).backgroundImage")
    assert hatched.startswith("repeating-linear-gradient")


def contrast(one: str, other: str) -> float:
    """As WCAG reckons it, of rgb(1, 2, 3)."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

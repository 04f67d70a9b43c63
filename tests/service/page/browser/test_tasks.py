"""Models without classes, or with several for a text, under Try it; and the drawing of other people's encoders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from benchmarks.pictures.page import serving
from runtime.artifact import Artifact
from tests.adopted import PROMPTS
from tests.export.adopt.tensors.networks import adopt
from tests.service.page.browser.browsing import Watched, ask, needs_chromium

pytestmark = needs_chromium
LINES = ["a b c d", "m n o p", "a b c c", "e f g h"]


@pytest.fixture
def embedding(embedding_artifact: Artifact) -> Iterator[str]:
    """A service of an adopted embedding model."""
    with serving(model=embedding_artifact.path) as url:
        yield url


@pytest.fixture
def reranker(rerank_artifact: Artifact) -> Iterator[str]:
    """A service of an adopted reranker."""
    with serving(model=rerank_artifact.path) as url:
        yield url


@pytest.fixture
def multilabel(multilabel_artifact: Artifact) -> Iterator[str]:
    """A service of an adopted classifier whose texts may have several labels."""
    with serving(model=multilabel_artifact.path) as url:
        yield url


def post(url: str, body: dict[str, Any]) -> Any:
    return httpx.post(url, json=body, trust_env=False).raise_for_status().json()


def ranked(page: Page) -> list[str]:
    expect(page.locator(".ranked li")).to_have_count(len(LINES) - 1)
    return page.locator(".ranked .given").all_inner_texts()


def test_other_texts_are_ranked_by_their_cosine_with_the_first(embedding: str, watched: Watched):
    page = watched.page
    page.goto(f"{embedding}/#try")
    ask(page, "\n".join(LINES))
    body = post(f"{embedding}/similarity", {"source_sentence": LINES[0], "sentences": LINES[1:]})
    cosines = dict(zip(LINES[1:], body["similarities"], strict=True))
    assert ranked(page) == sorted(cosines, key=lambda text: -cosines[text])
    nearest = page.locator(".ranked li").first.locator(".score")
    expect(nearest).to_contain_text(f"cosine {max(cosines.values()):.2f}"[:-1])
    expect(page.get_by_text("The cosine of each text's vector")).to_be_visible()
    expect(page.get_by_role("heading", name="Through the network")).to_have_count(0)


def test_a_prompt_is_chosen_by_its_name(embedding: str, watched: Watched):
    page = watched.page
    page.goto(f"{embedding}/#try")
    choice = page.get_by_label("Prompt")
    expect(choice.locator("option")).to_have_text(["none", *PROMPTS])
    body = {"source_sentence": LINES[0], "sentences": LINES[1:]}
    for name in ("", *PROMPTS):
        choice.select_option(name)
        ask(page, "\n".join(LINES))
        answer = post(f"{embedding}/similarity", body | ({"prompt_name": name} if name else {}))
        best = f"cosine {max(answer['similarities']):.2f}"[:-1]
        expect(page.locator(".ranked li").first.locator(".score")).to_contain_text(best)


def test_models_without_prompts_have_no_choice(reranker: str, watched: Watched):
    watched.page.goto(f"{reranker}/#try")
    expect(watched.page.get_by_role("button", name="Ask")).to_be_visible()
    expect(watched.page.get_by_label("Prompt")).to_have_count(0)


def test_one_text_shows_its_vector(embedding: str, watched: Watched):
    watched.meant = ("Failed to load resource",)  # an answer of status 400
    page = watched.page
    page.goto(f"{embedding}/#try")
    ask(page, LINES[0])
    answer = post(f"{embedding}/embed", {"inputs": [LINES[0]]})["embeddings"][0]
    expect(page.locator("[data-answer=vector]")).to_have_text(f"{len(answer['embedding'])} numbers")
    expect(page.get_by_text(f"{answer['tokens']} tokens read. The vector's length is 1.")).to_be_visible()
    page.locator("#view-try summary").click()
    expect(page.locator("#view-try tbody tr")).to_have_count(len(answer["embedding"]))
    ask(page, "  ")
    expect(page.get_by_role("alert")).to_contain_text("at least one word")
    page.get_by_role("button", name="я не понимаю").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_documents_are_ranked_by_how_well_they_answer(reranker: str, watched: Watched):
    page = watched.page
    page.goto(f"{reranker}/#try")
    ask(page, LINES[0])
    expect(page.get_by_role("alert")).to_contain_text("at least one document below it")
    ask(page, "\n".join(LINES))
    results = post(f"{reranker}/rerank", {"query": LINES[0], "documents": LINES[1:]})["results"]
    assert ranked(page) == [LINES[1 + each["index"]] for each in results]
    expect(page.get_by_text("Score of each document, from 0 to 1")).to_be_visible()
    expect(page.locator(".ranked .score").first).to_contain_text("score 0.")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_scores_of_several_labels_are_shown_as_they_are(multilabel: str, watched: Watched):
    page = watched.page
    page.goto(f"{multilabel}/#try")
    ask(page, LINES[0])
    best = post(f"{multilabel}/predict", {"inputs": [LINES[0]]})["predictions"][0]
    expect(page.locator("[data-answer]")).to_have_text(best["label"])
    expect(page.locator(".answer .soft")).to_contain_text(f"score {best['score']:.2f}"[:-1])
    expect(page.get_by_text("they do not add up to 1")).to_be_visible()
    page.locator("#view-try details summary").first.click()
    expect(page.locator("#view-try tbody").first).not_to_contain_text("%")


def test_two_lines_are_a_pair(busy: str, watched: Watched):
    """The service's own model reads no pairs: its answers are made up here."""
    page = watched.page
    model = httpx.get(f"{busy}/model", trust_env=False).json()
    model["inputs"]["pairs"] = True
    best = {"label": "entailment", "score": 0.9}
    layer = {"name": "encoder.layer.0.output.LayerNorm", "mean": 0, "variance": 1, "mean_z": 0.5, "variance_z": 4}
    prediction = best | {"tokens": 9, "truncated": False, "top": [best], "norm_stats": [layer]}
    page.route("**/model", lambda route: route.fulfill(json=model))
    page.route("**/predict", lambda route: route.fulfill(json={"predictions": [prediction] * 2}))
    page.goto(f"{busy}/#try")
    expect(page.get_by_text("Two lines are one pair")).to_be_visible()
    ask(page, "\n".join(LINES[:3]))
    expect(page.get_by_role("alert")).to_contain_text("the last line has no second one")
    with page.expect_request("**/predict") as asked:
        ask(page, "\n".join(LINES))
    assert asked.value.post_data_json["inputs"] == [LINES[:2], LINES[2:]]
    expect(page.locator(".answers .given").first).to_have_text("a b c d / m n o p")


def test_encoder_is_drawn_block_by_block_from_any_names(embedding: str, watched: Watched):
    page = watched.page
    page.set_viewport_size({"width": 360, "height": 780})
    layers = httpx.get(f"{embedding}/model", trust_env=False).json()["layers"]
    name = next(layer for layer in layers if "attention" in layer)
    page.goto(f"{embedding}/#layers/{name}")
    expect(page.locator("a.node")).to_have_count(len(layers))
    expect(page.locator("a.node[aria-current]")).to_have_attribute("title", name)
    expect(page.locator(".network .block").first).to_have_text("Block 0")
    expect(page.locator(".network .block")).to_have_count(
        len({layer.split(".")[2] for layer in layers if "layer." in layer})
    )
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    for view in ("verdict", "try", f"layers/{name}"):
        page.goto(f"{embedding}/#{view}")
        expect(page.locator(f"#view-{view.split('/')[0]}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view


@pytest.fixture
def network(tmp_path: Path) -> Iterator[str]:
    """A service of a network that reads images."""
    (tmp_path / "labels.txt").write_text("a\nb\nc")
    with serving(model=adopt(tmp_path, "image", rows=40, labels=tmp_path / "labels.txt").artifact.path) as url:
        yield url


def test_a_row_of_numbers_is_asked_and_each_norm_says_its_unit(network: str, watched: Watched):
    page = watched.page
    page.goto(f"{network}/#try")
    expect(page.locator("#ask-help")).to_contain_text("A row of 1 x 8 x 8 numbers")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#answers")).to_contain_text("one row or token read")
    page.goto(f"{network}/#layers/bn1")
    expect(page.get_by_role("heading", name="The network")).to_be_visible()
    expect(page.locator("#view-layers")).to_contain_text("BatchNorm of 6 features of each pixel")

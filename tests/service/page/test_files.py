"""The page's files as the service hands them out; tests/service/page/ opens it."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.page.files import DOCS, FOLDER, TYPES, files_of_docs, files_of_page

ROOT = Path(__file__).parents[3]
FILES = sorted(files_of_page())
OURS = [FOLDER / name for name in FILES if not name.startswith("vendor/")]
VENDOR = FOLDER / "vendor"


def test_root_is_the_page(client: TestClient):
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type(client: TestClient, name: str):
    response = client.get(f"/page/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == TYPES[Path(name).suffix]
    assert response.content == (FOLDER / name).read_bytes()


def test_docs_are_served_from_here_alone(client: TestClient):
    """What is in them asks no other host, and their policy would not let it."""
    html = client.get("/docs").text
    assert html == (DOCS / "docs.html").read_text()
    for path in re.findall(r'(?:href|src)="([^"]+)"', html):
        assert client.get(f"/{path}").status_code == 200, path
    assert client.get("/docs/nothing.js").status_code == 404 and client.get("/redoc").status_code == 404
    policy = client.get("/docs").headers["content-security-policy"]
    assert "default-src 'self'" in policy and "script-src" not in policy and "http" not in policy
    assert {path.suffix for path in files_of_docs().values()} == {".html", ".js", ".css"}


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_headers_let_nothing_foreign_in(client: TestClient, path: str):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert not {"script-src", "style-src", "connect-src"} & policy.keys()  # all as default-src says
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert headers["referrer-policy"] == "no-referrer"


def test_file_that_the_browser_has_is_not_sent_again(client: TestClient):
    first = client.get("/page/main.js")
    again = client.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    other = client.get("/page/main.js", headers={"If-None-Match": '"another"'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.content) == (200, first.content)
    assert first.headers["cache-control"] == "no-cache"


def test_large_files_travel_compressed_where_that_is_understood(client: TestClient):
    name = "/page/vendor/echarts-6.1.0.js"
    with client.stream("GET", name, headers={"Accept-Encoding": "gzip"}) as response:
        sent = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(sent) < 220_000
    plain = client.get(name, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(sent) == plain.content


@pytest.mark.parametrize("name", ["nothing.js", "vendor/README.md", "../app.py", "..%2Fapp.py", "", "vendor"])
def test_what_is_no_file_of_the_page_is_not_found(client: TestClient, name: str):
    response = client.get(f"/page/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_chart_library_is_the_one_that_was_reviewed():
    (library,) = VENDOR.glob("*.js")
    noted = re.search(r"SHA-256: `(\w+)`", (VENDOR / "README.md").read_text())
    assert noted and hashlib.sha256(library.read_bytes()).hexdigest() == noted[1]
    assert {path.name for path in VENDOR.glob("LICENSE*")} == {
        f"LICENSE-{n}" for n in ("d3", "echarts", "tslib", "zrender")
    }


def test_every_name_that_the_page_asks_for_is_there():
    index = (FOLDER / "index.html").read_text()
    asked = set(re.findall(r'(?:src|href)="page/([^"]+)"', index))
    for path in OURS:
        asked |= set(re.findall(r'from "\./([^"]+)"', path.read_text()))
    assert "vendor/echarts-6.1.0.js" in asked
    assert asked | {"index.html"} == set(FILES)


def test_page_makes_no_markup_of_data_and_asks_nobody_else():
    for path in OURS:
        text = path.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc", text
        ), path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert path.name == "theme.js" or "localStorage" not in text.replace(
            'localStorage.setItem("addnorm-theme"', ""
        ), path
    index = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script>|<style|\son\w+=|style=", index)


def test_own_files_stay_small():
    assert not [path.name for path in OURS if len(path.read_text().splitlines()) > 250]


def test_images_take_the_page_along():
    """tests/test_wheel.py has the same of the wheel."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert (
        lines.count("COPY service/ service/") == lines.count("COPY runtime/ runtime/") == 2
    )  # for serving, and for training

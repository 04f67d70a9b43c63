"""The documents say what the code does."""

import json
import re
from pathlib import Path

from runtime.errors import Forbidden, InvalidInput
from service.http.errors import STATUS, STATUS_BY_CODE
from service.settings import Settings

ROOT = Path(__file__).parents[2]
OPENAPI = ROOT / "tests" / "service" / "api" / "openapi.json"
API = (ROOT / "docs" / "api.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        row = next((line for line in API.splitlines() if line.startswith(f"| `ADDNORM_{name.upper()}`")), "")
        default = "models/intents/1" if name == "model" else str(field.default)
        assert default in row.replace(r"\|", "|"), f"docs/api.md lacks ADDNORM_{name.upper()} = {default}"


def test_every_error_code_in_the_code_is_documented() -> None:
    sources = [path.read_text() for folder in ("runtime", "service") for path in (ROOT / folder).rglob("*.py")]
    codes = codes_of_bad_input()
    codes |= {code for text in sources for code in re.findall(r'error_response\([^"]*?(?:f?"[^"]*", )"(\w+)"', text)}
    codes |= {error.code for error in STATUS if error not in (InvalidInput, Forbidden)}
    codes |= {code for text in sources for code in re.findall(r'Forbidden\(\s*"(\w+)"', text)}
    assert {"too_many_rows", "foreign_origin", "not_found", "unknown_layer", "internal_error"} <= codes
    assert not {code for code in codes if f"`{code}`" not in API}


def test_every_status_and_its_codes_are_in_one_table() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \| .+ \|$", API, re.MULTILINE)
    told = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert [int(status) for status, _ in rows] == sorted(int(status) for status, _ in rows)
    assert len(told) == sum(len(re.findall(r"`(\w+)`", codes)) for _, codes in rows), "a code is there twice"
    declared = {
        int(status)
        for item in json.loads(OPENAPI.read_text())["paths"].values()
        for operation in item.values()
        for status in operation["responses"]
    }
    assert declared - {200} <= {int(status) for status, _ in rows}
    assert {(status, error.code) for error, status in STATUS.items() if error not in (InvalidInput, Forbidden)} <= told
    assert {(status, code) for code, status in STATUS_BY_CODE.items()} <= told
    assert {code for status, code in told if status == 400} >= codes_of_bad_input() - STATUS_BY_CODE.keys()


def codes_of_bad_input() -> set[str]:
    sources = [path.read_text() for folder in ("runtime", "service") for path in (ROOT / folder).rglob("*.py")]
    return {code for text in sources for code in re.findall(r'InvalidInput\(\s*"(\w+)"', text)}


def test_every_relative_link_in_the_documents_exists() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            if target.startswith("http"):
                continue
            name, _, heading = target.partition("#")
            file = document.parent / name if name else document
            assert file.exists(), f"{document.name}: {target}"
            assert not heading or heading in anchors(file.read_text()), f"{document.name}: {target}"


def anchors(text: str) -> set[str]:
    """What headings are linked by, as GitHub makes it of their words."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

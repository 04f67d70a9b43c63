"""The documents say what the code does."""

import re
from pathlib import Path

from runtime.errors import InvalidInput
from service.errors import STATUS
from service.settings import Settings

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        row = next((line for line in API.splitlines() if line.startswith(f"| `ADDNORM_{name.upper()}`")), "")
        default = "models/intents/1" if name == "model" else str(field.default)
        assert default in row, f"docs/api.md lacks ADDNORM_{name.upper()} = {default}"


def test_every_error_code_in_the_code_is_documented() -> None:
    sources = [path.read_text() for folder in ("runtime", "service") for path in (ROOT / folder).rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'InvalidInput\(\s*"(\w+)"', text)}
    codes |= {code for text in sources for code in re.findall(r'error_response\([^"]*?(?:f?"[^"]*", )"(\w+)"', text)}
    codes |= {error.code for error in STATUS if error is not InvalidInput}
    assert {"too_many_rows", "not_found", "unknown_layer", "internal_error"} <= codes
    assert not {code for code in codes if f"`{code}`" not in API}


def test_every_relative_link_in_the_documents_exists() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
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

"""Makes addnorm_client/models of the OpenAPI snapshot: `make client-models`, or with the folder to write to.

Only what the clients answer with is taken, a module for each subject. Two things are told otherwise than the service
tells them, so that a client of one version reads the answers of another: fields that it does not know are allowed, and
what may be null may also be missing.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests" / "service" / "api" / "openapi.json"
MODELS = Path(__file__).parent / "src" / "addnorm_client" / "models"
PREFIX = "#/components/schemas/"

# module -> the answers in it; what they are made of is in the first that needs it
MODULES = {
    "inference": ["PredictResponse", "EmbedResponse"],
    "ranking": ["RerankResponse", "SimilarityResponse", "TokenizeResponse"],
    "repository": ["ModelResponse", "Ready", "IndexEntry"],
    "deep": ["DeepStatistics"],
    "layers": ["LayerStatistics"],
    "norm_stats": ["NormStatsResponse", "LayerResponse"],
    "traffic": ["TrafficResponse"],
}
HEADER = "# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service."
OPTIONS = [
    "--input-file-type=openapi",
    "--output-model-type=pydantic_v2.BaseModel",
    "--target-python-version=3.11",
    "--base-class=addnorm_client.bodies.Body",
    '--aliases={"from": "start", "to": "end"}',  # what Python cannot call a field
    "--enum-field-as-literal=all",
    "--use-one-literal-as-default",
    "--strict-nullable",
    "--use-schema-description",
    "--use-field-description",
    "--use-single-line-docstring",
    "--use-exact-imports",
    "--all-exports-scope=children",
    "--disable-future-imports",
    "--disable-timestamp",
    f"--custom-file-header={HEADER}",
    "--no-formatters",
    "--ignore-pyproject",
]


def answers(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of the clients' answers alone, each schema named MODULE.NAME."""
    schemas = document["components"]["schemas"]
    modules: dict[str, str] = {}
    for module, names in MODULES.items():
        for name in reachable(names, schemas):
            modules.setdefault(name, module)
    taken = {f"{module}.{name}": tolerant(located(schemas[name], modules)) for name, module in modules.items()}
    return document | {"paths": {}, "components": {"schemas": taken}}


def reachable(names: list[str], schemas: dict[str, Any]) -> Iterator[str]:
    for name in names:
        yield name
        yield from reachable(list(references(schemas[name])), schemas)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].removeprefix(PREFIX)
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from references(part)


def located(node: Any, modules: dict[str, str]) -> Any:
    """The same schema, referring to others by module and name."""
    if isinstance(node, list):
        return [located(part, modules) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix(PREFIX)
        node = node | {"$ref": f"{PREFIX}{modules[name]}.{name}"}
    return {key: located(part, modules) for key, part in node.items()}


def tolerant(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of an object that says what must be there and nothing else; without titles, which repeat names."""
    fields = {name: {k: v for k, v in field.items() if k != "title"} for name, field in schema["properties"].items()}
    required = [name for name in schema.get("required", []) if {"type": "null"} not in fields[name].get("anyOf", [])]
    schema = {key: value for key, value in schema.items() if key != "additionalProperties"}
    return schema | {"properties": fields, "required": required}


def generate(output: Path) -> None:
    """Writes the modules to the folder `output`."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "openapi.json"
        source.write_text(json.dumps(answers(json.loads(SNAPSHOT.read_text()))))
        run("datamodel_code_generator", f"--input={source}", f"--output={output}", *OPTIONS)
    for command in (["check", "--select=I", "--fix"], ["format"]):
        run("ruff", *command, "--quiet", f"--config={ROOT / 'pyproject.toml'}", str(output))


def run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if sys.argv[1:] else MODELS)

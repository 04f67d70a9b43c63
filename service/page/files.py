"""The page at `/` and its files, which are part of the package; and the API's own page at `/docs`, with Swagger UI."""

import gzip
import hashlib
import importlib.util
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent / "static"
DOCS = FOLDER / "docs"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
ZIP_FROM = 1024  # bytes; smaller files gain nothing
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SWAGGERS = POLICY + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:"  # it writes styles into its elements
SECURITY = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageFile(NamedTuple):
    """A file's content, its type, and what tells one version of it from another."""

    content: bytes
    zipped: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "PageFile":
        content = path.read_bytes()
        zipped = gzip.compress(content, 6, mtime=0) if len(content) >= ZIP_FROM else content
        return cls(content, zipped, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class PageFiles:
    """All files of a page, by their path in its folders; read when the first one is asked for.

    Args:
        policy: the Content-Security-Policy that they are served with.
        find: gives the files.
    """

    def __init__(self, policy: str, find: Callable[[], dict[str, Path]]) -> None:
        self.policy, self.find = policy, find

    @cached_property
    def by_name(self) -> dict[str, PageFile]:
        return {name: PageFile.read(path) for name, path in self.find().items()}

    def response(self, name: str, request: Request) -> Response:
        """The file, or 304 where the browser has it.

        Raises:
            HTTPException: 404, there is none of that name.
        """
        if (file := self.by_name.get(name)) is None:
            raise HTTPException(404)
        headers = SECURITY | {
            "Content-Security-Policy": self.policy,
            "ETag": file.etag,
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", "") or file.zipped is file.content:
            return Response(file.content, headers=headers, media_type=file.media_type)
        return Response(file.zipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)


def add_page(app: FastAPI) -> None:
    """The routes are plain functions: the first one to be asked reads all files."""
    files, docs = PageFiles(POLICY, files_of_page), PageFiles(SWAGGERS, files_of_docs)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return files.response(INDEX, request)

    @app.get("/page/{name:path}", include_in_schema=False)
    def page_file(name: str, request: Request) -> Response:
        return files.response(name, request)

    @app.get("/docs", include_in_schema=False)
    def docs_page(request: Request) -> Response:
        return docs.response("docs.html", request)

    @app.get("/docs/{name}", include_in_schema=False)
    def docs_file(name: str, request: Request) -> Response:
        return docs.response(name, request)


def files_of_page() -> dict[str, Path]:
    files = (path for path in FOLDER.rglob("*") if path.suffix in TYPES and DOCS not in path.parents)
    return {path.relative_to(FOLDER).as_posix(): path for path in files}


def files_of_docs() -> dict[str, Path]:
    """Ours, and Swagger UI's as its package brings them: no other host is asked."""
    spec = importlib.util.find_spec("fastapi_offline")
    assert spec is not None and spec.origin is not None
    swagger = Path(spec.origin).parent / "static"
    paths = [*DOCS.iterdir(), *(swagger / name for name in ("swagger-ui-bundle.js", "swagger-ui.css"))]
    return {path.name: path for path in paths}

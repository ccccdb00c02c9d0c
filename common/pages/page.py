"""The skeleton of a page: title, styles, body, scripts, and a policy that nothing else loads."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from common.pages.markup import Html, element, together

BLOCKS = ("viewer", "table", "selection")  # each has a script, a style, or both
# Programs of others that blocks need, as modules; their licences lie beside them.
_VENDORED = {"mesh_view": "vendor/model-viewer.min.js"}


def write_page(path: Path, title: str, body: Html, blocks: Sequence[str] = BLOCKS) -> None:
    """Write a page with the styles and scripts of these blocks; creates the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, body, blocks), encoding="utf-8")


def page(title: str, body: Html, blocks: Sequence[str] = BLOCKS) -> Html:
    """A whole document that loads nothing from anywhere."""
    scripts = [script for block in blocks if (script := _source(f"{block}.js"))]
    modules = [_source(_VENDORED[block]) for block in blocks if block in _VENDORED]
    styles = [_source("page.css"), *(_source(f"{block}.css") for block in blocks)]
    head = together(
        element("meta", {"charset": "utf-8"}),
        element(
            "meta", {"http-equiv": "Content-Security-Policy", "content": _policy(scripts, modules)}
        ),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", {}, title),
        element("style", {}, Html("\n".join(styles))),
    )
    ends = together(
        *(element("script", {"type": "module"}, Html(module)) for module in modules),
        *(element("script", {}, Html(script)) for script in scripts),
    )
    document = element(
        "html", {"lang": "en"}, element("head", {}, head), element("body", {}, body, ends)
    )
    return Html(f"<!doctype html>\n{document}\n")


def _source(name: str) -> str:
    file = files("common.pages").joinpath(name)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _policy(scripts: Sequence[str], modules: Sequence[str]) -> str:
    """What the browser may use: the page itself. Markup that slipped in could not run a script."""
    digests = [hashlib.sha256(source.encode()).digest() for source in (*scripts, *modules)]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    # The mesh viewer reads its meshes and their textures as files that the page makes.
    own = " blob:" if modules else ""
    # Of WebAssembly, the viewer's module starts a decoder when it is loaded.
    wasm = " 'wasm-unsafe-eval'" if modules else ""
    files = " connect-src blob:;" if modules else ""
    return (
        f"default-src 'none'; img-src data:{own};{files} style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; "
        f"script-src {allowed or chr(39) + 'none' + chr(39)}{wasm}"
    )

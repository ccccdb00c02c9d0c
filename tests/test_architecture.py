"""Who may import whom: scripts use dvr and idr, these use common, and common uses neither."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.make_run import ROOT

OURS = ("common", "dvr", "idr", "scripts", "tests")
MAY_IMPORT = {
    "common": {"common"},
    "dvr": {"common", "dvr"},
    "idr": {"common", "idr"},
    "scripts": {"common", "dvr", "idr"},
}
LONGEST = 450  # lines: a file that grows beyond holds more than one idea


def modules(top: str) -> list[Path]:
    return sorted((ROOT / top).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module a file imports, wherever in it, and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            # A relative import has a level and stays inside its own package.
            yield node.module or "", node.lineno


def violations(source: str, allowed: set[str], path: Path) -> list[str]:
    path.write_text(source)
    return forbidden(path, allowed)


def forbidden(path: Path, allowed: set[str]) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for name, line in imported(path)
        if (top := name.split(".")[0]) in OURS and top not in allowed
    ]


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_imports_point_downwards(top) -> None:
    found = [line for path in modules(top) for line in forbidden(path, MAY_IMPORT[top])]
    assert not found


def test_a_wrong_import_would_be_seen(tmp_path) -> None:
    """Hidden in a function, by either form; names that only begin alike are others'."""
    path = tmp_path / "module.py"
    for line in ("import dvr.model", "from dvr import losses", "import common, dvr"):
        assert violations(f"def f():\n    {line}\n", {"common"}, path)
    assert not violations("import dvrx\nfrom commonality import b\n", {"common"}, path)


@pytest.mark.parametrize("top", ["common", "dvr", "idr", "scripts"])
def test_there_is_something_to_check(top) -> None:
    assert len(modules(top)) > 3


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_no_file_outgrows_a_sitting(top) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(top)}
    assert not {str(path): count for path, count in lengths.items() if count > LONGEST}


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_no_file_is_a_drawer_for_everything(top) -> None:
    assert not {p.name for p in modules(top)} & {"utils.py", "util.py", "helpers.py", "misc.py"}


COMMANDS = [path for path in modules("scripts") if path.stem != "method"]  # what they share


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_scripts_are_thin(path) -> None:
    """A docstring that --help shows, a main, and the one way to run it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert ast.get_docstring(tree) and "main" in names
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    run_command(main)"


@pytest.mark.parametrize("top", ["common", "dvr", "idr"])
def test_public_functions_and_classes_say_what_they_do(top) -> None:
    silent = []
    for path in modules(top):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for owner in (tree, *(node for node in classes if node.name[0] != "_")):
            for node in (owner, *owner.body):
                kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
                public = not getattr(node, "name", "").startswith("_")
                if isinstance(node, kinds) and public and not ast.get_docstring(node):
                    silent.append(f"{path}: {getattr(node, 'name', 'the file')}")
    assert not silent

"""What README and docs/ say is so: links, pictures, commands, settings and examples."""

import argparse
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path

import pytest

from common.config import key_names
from dvr.config import DVRConfig
from idr.config import IDRConfig
from tests.make_collection import write_tiny_scene
from tests.make_run import ROOT, run_script

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_PAGES = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = {*key_names(DVRConfig), *key_names(IDRConfig)}
# Of TensorBoard, torchrun and sha256sum.
FOREIGN_OPTIONS = {
    "--logdir",
    "--nproc_per_node",
    "--check",
    *("--only", "--kills", "--few", "--steps"),  # of python -m tests.torture
}
FILES = (".md", ".npz", ".npy", ".pt", ".pth", ".py", ".json", ".jsonl", ".yaml", ".lst", ".html")


def blocks(page: Path, language: str) -> list[str]:
    return [
        body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language
    ]


def prose(page: Path) -> str:
    """The page without its blocks of code and formulas."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    return re.findall(r"(?<![`$])`([^`\n]+)`(?![`$])", prose(page))


def commands(page: Path) -> list[list[str]]:
    """The words of every command on the page, in blocks and in lines of text."""
    lines = [
        line
        for body in blocks(page, "bash") + blocks(page, "")
        for line in body.replace("\\\n", " ").replace(" &\n", "\n").splitlines()
    ]
    lines += code_spans(page)
    words = [shlex.split(line, comments=True) for line in lines if "python scripts/" in line]
    torchrun = [shlex.split(line, comments=True) for line in lines if line.startswith("torchrun -")]
    return [line[1:] for line in words] + [line[2:] for line in torchrun]


class Parsed(BaseException):
    """Thrown in place of a script's work, with what its command line means."""

    def __init__(self, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
        self.parser, self.arguments = parser, arguments


def stopped(script: str, words: list[str], read: bool = True) -> Parsed:
    """The script's own parser and what it makes of these words; it exits where they are wrong.

    Not to ``read`` them gives the parser alone.
    """
    path = ROOT / script
    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            parse = getattr(argparse.ArgumentParser, name)

            def stop(self, *given, parse=parse):
                raise Parsed(self, parse(self, *given) if read else argparse.Namespace())

            patch.setattr(argparse.ArgumentParser, name, stop)
        patch.setattr(sys, "argv", [str(path), *words])
        patch.syspath_prepend(str(path.parent))
        with pytest.raises(Parsed) as caught:
            runpy.run_path(str(path), run_name="__main__")
    return caught.value


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def links(page: Path) -> list[tuple[str, str]]:
    text = prose(page)
    found = re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text)
    return found + [("", target) for target in re.findall(r'<img src="([^"]+)"', text)]


class TestLinks:
    @ON_PAGES
    def test_they_lead_somewhere(self, page) -> None:
        for _, target in links(page):
            if target.startswith(("http://", "https://")):
                continue
            file, _, anchor = target.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target

    @ON_PAGES
    def test_what_is_linked_by_name_is_defined_in_that_file(self, page) -> None:
        for text, target in links(page):
            if target.endswith(".py") and re.fullmatch(r"`\w+`", text):
                source = (page.parent / target).read_text(encoding="utf-8")
                assert re.search(rf"^(def|class) {text[1:-1]}\b", source, re.MULTILINE), target

    @ON_PAGES
    def test_files_named_in_passing_exist(self, page) -> None:
        tops = ("common/", "dvr/", "idr/", "scripts/", "configs/", "tests/")
        named = [span for span in code_spans(page) if span.startswith(tops) and " " not in span]
        named = [span for span in named if not span.endswith(".sh")]  # the authors'; we have none
        assert not [span for span in named if not (ROOT / span).exists()]

    def test_every_page_can_be_reached_from_the_first(self) -> None:
        reached, waiting = set(), [PAGES[0]]
        while waiting:
            page = waiting.pop()
            reached.add(page)
            local = {
                (page.parent / target.partition("#")[0]).resolve() for _, target in links(page)
            }
            waiting += [page for page in local & set(PAGES) if page not in reached]
        assert reached == set(PAGES)

    def test_a_broken_one_would_be_seen(self, tmp_path) -> None:
        page = tmp_path / "page.md"
        page.write_text("# A (small) title\n[here](#a-small-title) [there](gone.md)\n")
        assert links(page) == [("here", "#a-small-title"), ("there", "gone.md")]
        assert anchors(page) == {"a-small-title"}


class TestCommands:
    @ON_PAGES
    def test_the_scripts_understand_them(self, page) -> None:
        from_scripts = str(ROOT / "scripts")
        for script, *words in commands(page):
            arguments = stopped(script, words).arguments
            config = getattr(arguments, "config", None)
            overrides = getattr(arguments, "overrides", [])
            if config and config.startswith("configs/"):
                with pytest.MonkeyPatch.context() as patch:
                    patch.syspath_prepend(from_scripts)
                    from method import load_config

                    load_config(str(ROOT / config), overrides)
            assert {word.partition("=")[0] for word in overrides} <= KEYS

    @ON_PAGES
    def test_tools_are_given_what_is_there(self, page) -> None:
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        text = "\n".join([*blocks(page, "bash"), *code_spans(page)])
        assert set(re.findall(r"\bmake ([a-z]+)", text)) <= set(targets)
        assert all((ROOT / file).exists() for file in re.findall(r"install -r (\S+\.txt)", text))

    @ON_PAGES
    def test_options_and_settings_named_in_passing_exist(self, page) -> None:
        options = {word for span in code_spans(page) for word in span.split() if word[:2] == "--"}
        assert {option.partition("=")[0] for option in options} <= all_options() | FOREIGN_OPTIONS
        sections = {key.partition(".")[0] for key in KEYS}
        added = re.findall(
            r"^\+ +(\w+): float = Field", "".join(blocks(page, "diff")), re.MULTILINE
        )
        keys = KEYS | {f"losses.{name}" for name in added}
        for span in code_spans(page):
            key = span.partition("=")[0]
            if re.fullmatch(r"[a-z_]+(\.[a-z0-9_*]+)+", key) and not key.endswith(FILES):
                known = key in keys or (key.endswith(".*") and key[:-2] in keys)
                assert known or key.partition(".")[0] not in sections, span

    def test_wrong_ones_would_be_seen(self) -> None:
        with pytest.raises(SystemExit):
            stopped("scripts/render.py", ["out/idr_spot", "--sideways"])
        assert stopped("scripts/render.py", ["out/idr_spot"]).arguments.run == "out/idr_spot"


def all_options() -> set[str]:
    """Every option of every script."""
    scripts = [path.name for path in (ROOT / "scripts").glob("*.py") if path.stem != "method"]
    lines = [(name, []) for name in scripts] + [("benchmark.py", ["idr"])]
    parsers = [stopped(f"scripts/{name}", words, read=False).parser for name, words in lines]
    return {option for parser in parsers for option in parser._option_string_actions}


# So small that a command takes a second; later options and settings win.
SMALL = {
    "train": [
        "data.path=data/tiny", "data.holdout_every=3", "training.iterations=2", "training.rays=64",
        "training.learning_rate=1e-6", "model.hash_grid.levels=2", "model.hash_grid.finest=16",
        "search.resolution=32", "search.evaluation_resolution=32", "rendering.samples=1",
    ],
    "generate_mesh": ["--resolution", "24", "--faces", "300"],
    "render": ["--size", "24"],
    "report": ["--views", "2"],
    "transfer_appearance": ["--frames", "3", "--size", "24"],
}  # fmt: skip


def small(name: str, words: list[str]) -> list[str]:
    extra = list(SMALL.get(name, []))
    if "--textured" in words:
        extra += ["--texture-size", "32"]
    if "--contact-sheet" in words or "--help-config" in words:
        extra = []
    words = [
        "6" if before in ("--orbit", "--frames") else word
        for before, word in zip(["", *words], [*words, ""], strict=True)
    ][:-1]
    return words + extra


def run_all(lines: list[list[str]], place: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for script, *words in lines:
            name = Path(script).stem
            outcome = run_script(name, *small(name, words))
            assert outcome.code == 0, f"{script} {words}: {outcome.err}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder where a newcomer has taken the first steps, with a photographed ball as data.

    The README's commands in the order in which they are copied; then further runs of other names.
    """
    folder = tmp_path_factory.mktemp("clone")
    (folder / "configs").symlink_to(ROOT / "configs")
    write_tiny_scene(folder / "data/tiny", views=9)
    (block,) = [body for body in blocks(PAGES[0], "bash") if "requirements.txt" in body]
    run_all([shlex.split(line, comments=True)[1:] for line in block.splitlines()[1:]], folder)
    for other in ("idr_spot", "idr_DTU", "RUN"):
        shutil.copytree(folder / "out/idr_sculpture", folder / "out" / other)
    (folder / "RUN").symlink_to(folder / "out/RUN")
    return folder


class TestWhatIsCheapIsRun:
    def test_the_first_steps(self, place) -> None:
        made = ("meshes/tiny.ply", "evaluation.json", "contact_sheet.png", "report.html")
        assert not [name for name in made if not (place / "out/idr_sculpture" / name).exists()]

    def test_showing(self, place) -> None:
        lines = commands(ROOT / "docs/showing.md")
        run_all([line for line in lines if line[0] != "scripts/view.py"], place)  # serves for ever
        assert (place / "out/idr_spot/meshes/tiny.glb").exists()
        assert (place / "comparison.html").exists()

    def test_preparation(self, place) -> None:
        run_all([["scripts/prepare_scene.py", "data/tiny", "data/mine"]], place)
        assert (place / "data/mine/report.html").exists()

    def test_lists(self) -> None:
        text = StringIO()
        with redirect_stdout(text):
            assert run_script("download_data", "--list").code == 0
        assert run_script("train", "--help-config").code == 0


def patches(page: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """File, lines before and lines after of every place that the page's patches change."""
    file = ""
    for body in blocks(page, "diff"):
        for is_mark, group in groupby(body.splitlines(), lambda line: line[:2] in ("++", "@@")):
            lines = list(group)
            if is_mark:
                file = next((line[4:] for line in lines if line[:2] == "++"), file)
                continue
            before = [line[1:] for line in lines if line[:1] != "+"]
            after = [line[1:] for line in lines if line[:1] != "-"]
            yield file, before, after


def apply(file: Path, before: list[str], after: list[str]) -> None:
    if not file.exists():
        assert not before
        file.write_text("\n".join(after) + "\n")
        return
    text, place = file.read_text(encoding="utf-8"), "\n".join(before) + "\n"
    assert before and text.count(place) == 1, f"{file}: not there, or not once: {before}"
    file.write_text(text.replace(place, "\n".join(after) + "\n"), encoding="utf-8")


# Run in the changed copy, by itself: the unchanged modules are loaded here already.
EXAMPLES = """
import json
from pathlib import Path
import numpy as np
import common, yaml
from common.scenes.sources import format_of
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import PICTURES, merged, run_script, tiny_settings, write_settings

here = Path.cwd()
assert Path(common.__file__).is_relative_to(here)
scene = write_tiny_scene(here / "scene", views=8)
idr = write_settings(here / "idr.yaml", tiny_idr_settings(scene, here / "run"))
collection = write_tiny_collection(here / "collection")
dvr = merged(tiny_settings(collection, here / "objects"), PICTURES)
dvr = write_settings(here / "dvr.yaml", dvr)
known = format_of(scene).read(scene)
own = here / "own"
own.mkdir()
for number, photograph in enumerate(known.photographs):
    (own / f"{number}.png").write_bytes(photograph.image.read_bytes())
    (own / "mask").mkdir(exist_ok=True)
    (own / "mask" / f"{number}.png").write_bytes(photograph.mask.read_bytes())
np.save(own / "poses.npy", [photograph.world_from_camera for photograph in known.photographs])
(own / "focal.txt").write_text(str(known.photographs[0].intrinsics[0, 0]))
read = format_of(own)
apart = np.abs(read.read(own).projections - known.projections).max()
outcomes = [
    run_script("train", idr, "losses.off_surface=0.1"),
    run_script("train", dvr, "model.encoder.kind=thumbnail"),
    run_script("train", idr, f"data.path={own}", f"training.out_dir={here / 'own_run'}"),
]
(own / "0.png").unlink()
outcomes.append(run_script("train", idr, f"data.path={own}", "training.out_dir=short"))
print(json.dumps({
    "outcomes": [[outcome.code, outcome.err] for outcome in outcomes],
    "metrics": (here / "run/metrics.jsonl").read_text(),
    "encoder": yaml.safe_load((here / "objects/config.yaml").read_text())["model"]["encoder"],
    "format": read.name,
    "apart": float(apart),
}))
"""


EXTENDING = ROOT / "docs/extending.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The code with the page's patches applied."""
    root = tmp_path_factory.mktemp("extended")
    for name in ("common", "dvr", "idr", "scripts", "tests", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for file, before, after in patches(EXTENDING):
        apply(root / file, before, after)
    return root


class TestExtending:
    def test_there_are_three_examples(self) -> None:
        assert len(blocks(EXTENDING, "diff")) == 3

    def test_they_keep_to_the_style(self, copy) -> None:
        changed = sorted({file for file, _, _ in patches(EXTENDING)})
        for check in (["check"], ["format", "--check"]):
            ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", *changed]
            done = subprocess.run(ruff, cwd=copy, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_they_work(self, copy) -> None:
        done = subprocess.run(
            [sys.executable, "-c", EXAMPLES], cwd=copy, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        *worked, refused = said["outcomes"]
        assert [code for code, _ in worked] == [0, 0, 0], worked
        assert refused[0] == 2 and "7 pictures, 8 poses" in refused[1]
        assert "off_surface" in said["metrics"]
        assert said["encoder"]["kind"] == "thumbnail"
        # The same cameras as in the folder they were taken from, which was read by another reader.
        assert said["format"] == "poses" and said["apart"] < 1e-3

"""Make a table of README.md or docs/results.md anew: train, mesh and score, over several seeds.

    python scripts/reproduce.py --list
    python scripts/reproduce.py furniture
    python scripts/reproduce.py idr --scene spot=data/spot dtu=SCAN temple=TEMPLE --seeds 5
    python scripts/reproduce.py idr --runs idr_sculpture --dry-run

Prints the table in Markdown, each number as the mean over the seeds 0, 1, ... and its standard
deviation over them. Everything is kept in OUT/<run>/seed_<seed>/: the same command, given again,
goes on where it was interrupted and repeats nothing that has ended. What was made with other
settings is refused, so delete OUT where the settings have changed. section.key=value changes
every training, as it does for train.py.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from method import load_config
from pydantic import Field

from common.command_line import positive
from common.config import Section, load_yaml, validate
from common.errors import BAD_INPUT, DIVERGED, STOPPED, Diverged, Stopped, UserError, run_command
from common.training.run_folder import write_json

SCRIPTS = Path(__file__).resolve().parent
CONFIGS = SCRIPTS.parent / "configs"
TABLES = SCRIPTS / "tables.yaml"
SIGNS = {STOPPED: Stopped, DIVERGED: Diverged, BAD_INPUT: UserError}


class Run(Section):
    """A training with its meshes and scores."""

    config: str = Field(description="its name in configs/")
    minutes: float = Field(description="on one core, by the documents")
    scene: str | None = Field(None, description="what is needed at data.path, see scenes")
    settings: tuple[str, ...] = Field((), description="section.key=value of the training")
    mesh: tuple[str, ...] | None = Field((), description="options of generate_mesh.py; null: none")
    evaluate: tuple[str, ...] = Field((), description="options of evaluate.py")


class Benchmark(Section):
    """A measurement by benchmark.py."""

    words: tuple[str, ...] = Field(description="its arguments")
    minutes: float = Field(description="on one core")
    run: str | None = Field(None, description="the run whose folder is a further argument")


class Column(Section):
    """A number of each row."""

    place: str = Field(description="names in the file of scores, joined by points")
    digits: int = Field(description="after the point")
    unit: str = Field("", description="printed behind the number")
    times: float = Field(1.0, description="from the file's unit to the printed one")


class Row(Section):
    """Where the numbers of a row are."""

    of: str = Field(description="a run or a benchmark")
    under: str = Field("", description="names in the file of scores that lead to the columns'")


class Table(Section):
    """One table of the documents."""

    title: str = Field(description="what is measured")
    columns: dict[str, Column] = Field(description="by heading")
    rows: dict[str, Row] = Field(description="by name")


class Book(Section):
    """All tables, and what makes them."""

    scenes: dict[str, str] = Field(description="how to get what a user must bring")
    runs: dict[str, Run] = Field(description="by name")
    benchmarks: dict[str, Benchmark] = Field(description="by name")
    tables: dict[str, Table] = Field(description="by name")


@dataclass(frozen=True)
class Job:
    """One seed of a run or benchmark: commands, each of a script's name and its arguments.

    ``settings`` tell whether what is in the folder was made by the same; ``scores`` is the file
    that the last command writes.
    """

    name: str
    folder: Path
    minutes: float
    settings: Any
    commands: tuple[tuple[str, ...], ...]
    scores: Path

    @property
    def receipt(self) -> Path:
        """What has been done so far."""
        return self.folder / "reproduction.json"

    def done(self) -> int:
        """How many of the commands have ended; UserError where they were others."""
        if not self.receipt.exists():
            return 0
        kept = json.loads(self.receipt.read_text(encoding="utf-8"))
        own = json.loads(json.dumps([self.settings, self.commands]))
        if [kept["settings"], kept["commands"]] != own:
            raise UserError(
                f"{self.folder}: was made with other settings or options; delete it, or name "
                "another folder by --out"
            )
        return kept["done"]

    def run(self) -> None:
        """Take the commands that are left; each that has ended is noted at once."""
        for index in range(self.done(), len(self.commands)):
            _call(*self.commands[index])
            note = {"settings": self.settings, "commands": self.commands, "done": index + 1}
            write_json(self.receipt, note)


def main() -> None:
    """Parse the command line, say what will be done, do it, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", help="its name, see --list")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--list", action="store_true", help="name the tables and their parts")
    parser.add_argument("--seeds", type=positive, default=3, help="how many; default: 3")
    parser.add_argument(
        "--scene", nargs="+", default=[], metavar="[NAME=]PATH", help="where the user's data are"
    )
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="only these rows; default: all")
    parser.add_argument("--out", type=Path, default=Path("out/reproduced"), help="folder of it all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and end")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    arguments = parser.parse_intermixed_args()
    book = validate(Book, load_yaml(TABLES), str(TABLES))
    if arguments.list:
        print(listing(book))
        return
    if arguments.table is None:
        parser.error("a table is needed; --list names them")
    if arguments.table not in book.tables:
        raise UserError(f"table '{arguments.table}': expected one of {', '.join(book.tables)}")
    table = book.tables[arguments.table]
    names = _names(table, arguments.runs)
    jobs = _jobs(book, names, arguments)
    print(plan(table, jobs), file=sys.stderr)
    if arguments.dry_run:
        return
    for job in jobs:
        job.run()
    scores: dict[str, list[dict]] = {name: [] for name in names}
    for job in jobs:
        if job.name in scores:
            scores[job.name].append(_scores(job.scores))
    numbers = collect(table, scores)
    if arguments.json:
        print(json.dumps({"table": arguments.table, "rows": numbers}, indent=2))
    else:
        print(markdown(table, numbers))


def listing(book: Book) -> str:
    """Every table with its title and what it is made of."""
    lines = []
    for name, table in book.tables.items():
        lines.append(f"{name}: {table.title}")
        for part in _names(table, None):
            scene = book.runs[part].scene if part in book.runs else None
            needs = f"; needs the scene '{scene}': {book.scenes[scene]}" if scene else ""
            lines.append(f"    {part}, {_minutes(book, part):g} minutes a seed{needs}")
    return "\n".join(lines)


def plan(table: Table, jobs: Sequence[Job]) -> str:
    """What is to be run, and how long that takes by the documents."""
    lines, total = [table.title], 0.0
    for job in jobs:
        left = len(job.commands) - job.done()
        total += job.minutes if left else 0
        lines.append(f"    {job.folder}: {f'{job.minutes:g} minutes' if left else 'has ended'}")
    return "\n".join([*lines, f"about {total:g} minutes in all, on one core"])


def collect(table: Table, scores: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    """Of every row that was run: each column's values, their mean, and their spread.

    The spread is the standard deviation of a sample; None for a single seed.
    """
    rows = []
    for name, row in table.rows.items():
        if row.of not in scores:
            continue
        columns = {}
        for heading, column in table.columns.items():
            place = [*filter(None, row.under.split(".")), *column.place.split(".")]
            found = [_at(score, place) for score in scores[row.of]]
            values = [value * column.times for value in found if value is not None]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else None
                mean = statistics.fmean(values)
                columns[heading] = {"mean": mean, "spread": spread, "values": values}
        rows.append({"row": name, "columns": columns})
    return rows


def markdown(table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as in the documents."""
    lines = [["", *table.columns], ["---"] * (len(table.columns) + 1)]
    for row in rows:
        cells = [_cell(row["columns"].get(name), column) for name, column in table.columns.items()]
        lines.append([row["row"], *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(number: Mapping[str, Any] | None, column: Column) -> str:
    if number is None:
        return ""
    parts = [number["mean"]] if number["spread"] is None else [number["mean"], number["spread"]]
    return " ± ".join(f"{part:.{column.digits}f}" for part in parts) + column.unit


def _at(scores: Any, place: Sequence[str]) -> float | None:
    for name in place:
        if not isinstance(scores, dict) or name not in scores:
            return None
        scores = scores[name]
    return scores


def _scores(path: Path) -> dict[str, Any]:
    """evaluation.json as it is, a benchmark's figures by their names."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {f["name"]: f for f in content} if isinstance(content, list) else content


def _names(table: Table, chosen: Sequence[str] | None) -> list[str]:
    """The runs and benchmarks of a table, or those ``chosen``."""
    names = list(dict.fromkeys(row.of for row in table.rows.values()))
    if unknown := set(chosen or ()) - set(names):
        raise UserError(f"--runs {', '.join(unknown)}: this table has {', '.join(names)}")
    return [name for name in names if chosen is None or name in chosen]


def _minutes(book: Book, name: str) -> float:
    return book.runs[name].minutes if name in book.runs else book.benchmarks[name].minutes


def _jobs(book: Book, names: Sequence[str], arguments: argparse.Namespace) -> list[Job]:
    """All that is to be done, seed by seed; UserError where a scene is missing."""
    needed = dict.fromkeys(
        book.runs[name].scene for name in _runs(book, names) if book.runs[name].scene
    )
    places = _places(arguments.scene, [scene for scene in needed if scene])
    jobs = []
    for seed in range(arguments.seeds):
        for name in _runs(book, names):
            jobs.append(_training(book, name, seed, places, arguments))
        for name in names:
            if name in book.benchmarks:
                jobs.append(_benchmark(book.benchmarks[name], name, seed, arguments.out))
    return jobs


def _runs(book: Book, names: Sequence[str]) -> list[str]:
    """The runs among these, and those that benchmarks among these are about."""
    benchmarks = [book.benchmarks[name] for name in names if name in book.benchmarks]
    return [n for n in names if n in book.runs] + [b.run for b in benchmarks if b.run]


def _training(
    book: Book, name: str, seed: int, places: Mapping[str, Path], arguments: argparse.Namespace
) -> Job:
    run, folder = book.runs[name], _folder(arguments.out, name, seed)
    config = CONFIGS / f"{run.config}.yaml"
    overrides = [*run.settings, *arguments.overrides]
    if run.scene is not None and run.scene in places:
        overrides.append(f"data.path={_quoted(places[run.scene])}")
    overrides += [f"training.seed={seed}", f"training.out_dir={_quoted(folder)}"]
    settings = load_config(str(config), overrides)
    if run.scene and not Path(settings.data.path).exists():
        raise UserError(
            f"{name}: {settings.data.path} is not there; give --scene {run.scene}=PATH "
            f"({book.scenes[run.scene]}), or leave the row out by --runs"
        )
    commands = [("train", str(config), *overrides)]
    if run.mesh is not None:
        commands.append(("generate_mesh", str(folder), *run.mesh))
    commands.append(("evaluate", str(folder), *run.evaluate))
    content = settings.model_dump(mode="json")
    return Job(name, folder, run.minutes, content, tuple(commands), folder / "evaluation.json")


def _benchmark(benchmark: Benchmark, name: str, seed: int, out: Path) -> Job:
    folder = _folder(out, name, seed)
    figures = folder / "benchmark.json"
    about = [str(_folder(out, benchmark.run, seed))] if benchmark.run else []
    command = ("benchmark", *benchmark.words, *about, "--json", str(figures))
    return Job(name, folder, benchmark.minutes, None, (command,), figures)


def _quoted(path: Path) -> str:
    """A path as YAML, whatever it holds."""
    return json.dumps(str(path), ensure_ascii=False)


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / name / f"seed_{seed}"


def _places(given: Sequence[str], needed: Sequence[str]) -> dict[str, Path]:
    """Scenes by name; a bare path is the only scene that the table needs."""
    places = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals and len(needed) == 1:
            name, path = needed[0], text
        if name not in needed:
            expected = " ".join(f"{scene}=PATH" for scene in needed) or "no scene"
            raise UserError(f"--scene {text}: expected {expected}")
        places[name] = Path(path)
    return places


def _call(script: str, *arguments: str) -> None:
    """Run a script to its end, in a process of its own; its failure is this one's."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments]
    print(f"python scripts/{script}.py {' '.join(arguments)}", file=sys.stderr, flush=True)
    # Standard output is for the table.
    with subprocess.Popen(command, stdout=sys.stderr) as process, _signals_go_to(process):
        code = process.wait()
    if code:
        told = f"scripts/{script}.py ended with exit code {code}"
        raise SIGNS.get(code, UserError)(f"{told} (see above); the same command goes on from there")


@contextmanager
def _signals_go_to(process: subprocess.Popen) -> Iterator[None]:
    """A stop is answered by the script that is at work; Ctrl-C reaches it by itself."""
    previous = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    run_command(main)

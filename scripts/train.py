"""Train a model from a YAML configuration.

    python scripts/train.py configs/dvr_ShapeNet.yaml
    python scripts/train.py configs/idr_DTU.yaml data.path=SCENE training.iterations=5000
    python scripts/train.py configs/idr_DTU.yaml data.path=SCENE --dry-run
    torchrun --nproc_per_node=2 scripts/train.py configs/dvr_ShapeNet_paper.yaml

A run found in training.out_dir is continued; --fresh keeps it aside and starts anew. --dry-run
takes a few real steps, says what the training would use and take, and leaves the run folder alone.
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout

from method import CONFIGS, load_config

import dvr.experiment
import dvr.plan
import idr.experiment
import idr.plan
from common.command_line import refuse_options
from common.config import describe
from common.denormals import start_threads
from common.errors import run_command
from common.training.processes import Process, joined
from dvr.config import DVRConfig
from idr.config import IDRConfig


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--fresh", action="store_true", help="keep an old run aside, start anew")
    parser.add_argument(
        "--exit-after", type=float, metavar="SECONDS", help="save, stop and exit with code 3"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do not train")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    parser.add_argument("--help-config", action="store_true", help="list every configuration key")
    arguments = parser.parse_intermixed_args()
    if arguments.help_config:
        for method, settings in CONFIGS.items():
            print(f"# method: {method}")
            for key, default, meaning in describe(settings):
                print(f"{key} = {default}\n    {meaning}")
        return
    if arguments.config is None:
        parser.error("a configuration file is needed, such as configs/dvr_ShapeNet.yaml")
    if arguments.dry_run:
        refuse_options(arguments, ["exit_after"], "a dry run is short by itself; leave it out")
    else:
        refuse_options(arguments, ["json"], "this is about the plan; add --dry-run")
    config = load_config(arguments.config, arguments.overrides)
    start_threads()
    with joined(arguments.device) as process:
        if arguments.dry_run:
            print_plan(config, process, arguments.fresh, arguments.json)
        elif isinstance(config, DVRConfig):
            dvr.experiment.train_experiment(config, process, arguments.fresh, arguments.exit_after)
        else:
            idr.experiment.train_experiment(config, process, arguments.fresh, arguments.exit_after)


def print_plan(config: DVRConfig | IDRConfig, process: Process, fresh: bool, as_json: bool) -> None:
    """Take a few steps and print what the training would use and take."""
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        if isinstance(config, DVRConfig):
            plan = dvr.plan.plan_experiment(config, process, fresh)
        else:
            plan = idr.plan.plan_experiment(config, process, fresh)
    if process.leads:
        print(json.dumps(plan.as_json(), indent=2) if as_json else plan.as_text())


if __name__ == "__main__":
    run_command(main)

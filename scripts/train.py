"""Train a model from a YAML configuration.

    python scripts/train.py configs/dvr_ShapeNet.yaml
    python scripts/train.py configs/idr_DTU.yaml data.path=SCENE training.iterations=5000
    torchrun --nproc_per_node=2 scripts/train.py configs/dvr_ShapeNet_paper.yaml

A run found in training.out_dir is continued; --fresh keeps it aside and starts anew.
"""

import argparse

from method import CONFIGS, load_config

import dvr.experiment
import idr.experiment
from common.config import describe
from common.errors import run_command
from common.training.processes import joined
from dvr.config import DVRConfig


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
    config = load_config(arguments.config, arguments.overrides)
    with joined(arguments.device) as process:
        if isinstance(config, DVRConfig):
            dvr.experiment.train_experiment(config, process, arguments.fresh, arguments.exit_after)
        else:
            idr.experiment.train_experiment(config, process, arguments.fresh, arguments.exit_after)


if __name__ == "__main__":
    run_command(main)

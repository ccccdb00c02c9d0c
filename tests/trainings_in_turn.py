"""Trains what each file configures, one after the other, in the processes that torchrun started."""

import sys
from pathlib import Path

import dvr.experiment
import idr.experiment
from common.config import load_yaml, validate
from common.training.processes import joined
from dvr.config import DVRConfig
from idr.config import IDRConfig


def main() -> None:
    with joined("cpu") as process:
        for path in sys.argv[1:]:
            content = load_yaml(Path(path))
            if content["method"] == "dvr":
                config = validate(DVRConfig, content, path)
                dvr.experiment.train_experiment(config, process)
            else:
                idr.experiment.train_experiment(validate(IDRConfig, content, path), process)


if __name__ == "__main__":
    main()

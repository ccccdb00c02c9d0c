"""Look at a run in the browser, while it trains or afterwards: turn it, and watch it learn.

    python scripts/view.py                                  the run that was written to last
    python scripts/view.py out/idr_DTU --port 8081
    python scripts/view.py configs/idr_spot.yaml --checkpoint best

Prints an address to open, and serves it until Ctrl-C. The newest checkpoint is shown, and shown
again whenever training writes another (--checkpoint best: the best one so far). Drag to turn; the
picture is coarse while the camera moves and becomes finer when it rests. Colour, normals, depth
and, of an appearance that knows it, what the view direction adds; cameras with their photographs,
held-out ones in orange; of a collection, which object and from which input picture. Training
started with all cores should be given fewer threads (OMP_NUM_THREADS=1), so that both go on.

Only this machine can open the address. From another: ssh -L 8080:localhost:8080 MACHINE.
Needs viser: pip install -e '.[view]'
"""

import argparse
from functools import partial

from method import find_run, method_of

import dvr.viewing
import idr.viewing
from common.command_line import run_parser
from common.denormals import start_threads
from common.errors import run_command
from common.training.processes import choose_device
from common.viewing.following import Following


def main() -> None:
    """Parse the command line, load the run, and serve it."""
    parser = run_parser(__doc__)
    parser.set_defaults(checkpoint="latest")
    parser.add_argument("--port", type=_port, default=8080, help="0: any that is free (8080)")
    arguments = parser.parse_args()
    # Not before: the other scripts' machines need not have it, and --help works without.
    from common.viewing.server import Viewer

    start_threads()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    method = dvr.viewing if method_of(run) == "dvr" else idr.viewing
    load = partial(method.learnt_run, run, device, arguments.checkpoint)
    viewer = Viewer(run.path.name, Following(run, arguments.checkpoint, load), arguments.port)
    print(f"run {run.path}\nopen in a browser: {viewer.url} (Ctrl-C ends)", flush=True)
    try:
        viewer.run()
    except KeyboardInterrupt:
        print("ended")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got '{text}'")
    return int(text)


if __name__ == "__main__":
    run_command(main)

"""Entry point of the submission image.

Without arguments: the interface of 2021, from /l2r/test to /l2r/submission.
``run.py current DATASET_JSON``: the later interface, from /l2r/data to /l2r/output.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from l2reg.inference.container import serve_2021, serve_current
from l2reg.problems import exit_on_input_error
from l2reg.runtime import configure_malloc

HERE = Path(__file__).parent
TERMINATED = 128 + signal.SIGTERM
_REPEAT_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the interfaces; exit with 1 if there is a fault of a pair or a task."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, terminate)
    configure_malloc()
    try:
        with exit_on_input_error():
            faults = options.serve(options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for fault in faults:
        print(f"!!! {fault}", file=sys.stderr)
    sys.exit(f"{len(faults)} faults, see above" if faults else 0)


def terminate(*_: object) -> None:
    """End the process, which as process 1 would ignore SIGTERM by default.

    An exit that arrives while an object is destroyed is ignored by Python, so an alarm repeats it.
    """
    signal.setitimer(signal.ITIMER_REAL, _REPEAT_SECONDS)
    sys.exit(TERMINATED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=Path, default=HERE / "models")
    parser.add_argument("--test", type=Path, default=Path("/l2r/test"))
    parser.add_argument("--out", type=Path, default=Path("/l2r/submission"))
    parser.set_defaults(serve=lambda o: serve_2021(o.methods, o.test, o.out))
    current = parser.add_subparsers().add_parser("current")
    current.add_argument("dataset_json", type=Path)
    current.add_argument("gpu", nargs="?", help="number of the GPU, which docker chooses; unused")
    current.add_argument("--data", type=Path, default=Path("/l2r/data"))
    current.add_argument("--out", type=Path, default=Path("/l2r/output"))
    current.set_defaults(serve=lambda o: serve_current(o.methods, o.dataset_json, o.data, o.out))
    return parser


if __name__ == "__main__":
    main()

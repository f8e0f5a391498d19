"""Write the weights of a run of ``experiment=descriptors`` as safetensors, in float16.

python -m tools.descriptor_weights runs/descriptors weights.safetensors
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from l2reg.checkpoints.descriptor_weights import write_descriptors
from l2reg.problems import exit_on_input_error


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    options = parser.parse_args(arguments)
    with exit_on_input_error():
        write_descriptors(options.run, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

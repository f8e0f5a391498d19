"""Stages of a registration, shown on a terminal with the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from tqdm import tqdm

Stage = Literal["reading scans", "finding the start", "registering", "writing"]

_SHARES: dict[Stage, int] = {  # of the time, in percent: of two scans of 256 voxels along each axis
    "reading scans": 15,
    "finding the start": 25,
    "registering": 40,
    "writing": 20,
}


@contextmanager
def progress_bar() -> Iterator[Callable[[Stage], None]]:
    """Yield a function that says which stage begins; nothing is shown where no terminal is."""
    form = "{desc} ({percentage:.0f} % done, {elapsed} since the start, about {remaining} left)"
    first, total = next(iter(_SHARES)), sum(_SHARES.values())
    with tqdm(desc=first, total=total, disable=None, leave=False, bar_format=form) as bar:

        def begin(stage: Stage) -> None:
            before = list(_SHARES).index(stage)
            bar.set_description_str(stage, refresh=False)
            bar.update(sum(list(_SHARES.values())[:before]) - bar.n)
            bar.refresh()

        yield begin

"""Memory of training steps: its peak, the options that lower it, and the error without enough."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from l2reg.problems import InputError, Problem
from l2reg.shapes import WorkingGrid

_NO_MEMORY = "DefaultCPUAllocator"  # in the message of the CPU, which has no class of its own


class MemoryPeak(TorchDispatchMode):
    """Context that counts the memory of all tensors that are made in it and live at once.

    It counts the same on every device, other than the memory of a process, which allocators keep;
    what an operator takes for itself is left out. Operators take longer in it.

    Attributes:
        peak: Largest number of bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and count its results unless they are views of what is there."""
        del types
        before = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _key(leaf) not in before | self._known:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def memory_options(settings: Any, grid: WorkingGrid) -> list[str]:
    """Return the options of ``l2reg train`` that lower the memory of a step, the gentlest first.

    Args:
        settings: The present ``TrainerSettings``.
        grid: Working grid of the network.
    """
    options = []
    if not settings.activation_checkpointing:
        options.append("trainer.activation_checkpointing=true")
    if settings.batch_size > 1:
        n = settings.batch_size * settings.accumulate
        options.append(f"trainer.batch_size=1 trainer.accumulate={n}")
    if settings.precision != "bf16":
        options.append("trainer.precision=bf16")
    if grid == "full":
        options.append("model.grid=half")
    return options


@contextmanager
def memory_error(step: int, settings: Any, grid: WorkingGrid) -> Iterator[None]:
    """Turn the error of a device without memory into an ``InputError`` that names the options.

    Args:
        step: Number of the training step.
        settings: See ``memory_options``.
        grid: See ``memory_options``.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not (isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY in str(error)):
            raise
        found = next(line for line in str(error).splitlines() if line)[:200]
        options = [*memory_options(settings, grid), "fewer feature maps or a coarser model.grid"]
        raise InputError(
            Problem(
                where=f"training step {step}",
                what="does not fit the memory",
                expected="memory for the activations of a batch",
                found=found,
                remedy=f"{'; or '.join(options)}. plan=true measures each",
            )
        ) from error

"""Run a function in a child process with limits of time and memory, and say how it ended."""

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from l2reg.problems import exit_on_input_error

MEMORY = 2 * 2**30  # bytes that a child may allocate beyond its parent
SECONDS = 10  # processor and clock time of a child
RIGHT, CLEAR = "right work", "clear error"
FAULTS = ("traceback", "hang", "memory", "crash", "names no file", "other content")


@dataclass(frozen=True)
class Outcome:
    """End of a run: ``RIGHT``, ``CLEAR`` or one of ``FAULTS``, and what was returned or printed."""

    kind: str
    text: str = ""


def guarded(function: Callable[[], str], name: str) -> Outcome:
    """Run a function in a forked child, as the entry points of l2reg would.

    Args:
        function: Function to run; it returns a description of its result.
        name: Name that a clear error has to contain.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _limit()
        found = outcome(function, name)
        with os.fdopen(writable, "w") as pipe:
            json.dump(asdict(found), pipe)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number == signal.SIGALRM else "crash", f"signal {number}")
    return Outcome(**json.loads(text)) if text else Outcome("crash", f"status {status}")


def _limit() -> None:
    """Limit address space and time, silence the output, and keep to one thread.

    A fork does not inherit its parent's OpenMP threads: PyTorch would wait for them forever.
    """
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)


def outcome(function: Callable[[], str], name: str) -> Outcome:
    """Run a function in this process without limits; see ``guarded``."""
    try:
        with exit_on_input_error():
            return Outcome(RIGHT, function())
    except SystemExit as stop:
        text = str(stop.code)
        clear = text.startswith("error: ") and name in text
        return Outcome(CLEAR if clear else "names no file", text)
    except MemoryError:
        return Outcome("memory", _last_lines())
    except BaseException:
        return Outcome("traceback", _last_lines())


def _last_lines() -> str:
    kind, error, trace = sys.exc_info()
    own = [frame for frame in traceback.extract_tb(trace) if "/l2reg/" in frame.filename]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "elsewhere"
    return f"{kind.__name__ if kind else ''} in {place}: {str(error)[:200]}"

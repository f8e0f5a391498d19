"""Names of the output folders of a multirun (``-m``), one for each combination of its values."""

import hashlib
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from l2reg.config.yaml_files import load_yaml

_NO_SETTING = frozenset({"run_dir", "out", "resume", "overwrite"})
_SPACE = re.compile(r"\s")
_MAX_LENGTH = 100  # characters of the settings in a name; longer ones end in a hash


def command_arguments(sweep_dir: Path | str) -> set[str]:
    """Return the arguments of the command that started a multirun, in each of its jobs.

    A job on a cluster is started by another command; there it is Hydra's ``multirun.yaml`` that
    tells them.

    Args:
        sweep_dir: Hydra's folder of the multirun.
    """
    saved = Path(sweep_dir) / "multirun.yaml"
    told = load_yaml(saved)["hydra"]["overrides"]["task"] if saved.is_file() else ()
    return {*sys.argv, *told}


def multirun_folder(
    folder: str, overrides: Sequence[str], arguments: Collection[str], in_name: Collection[str]
) -> str:
    """Return the output folder of one run of a multirun: ``folder`` and what the run varies.

    The same settings give the same folder, so that ``resume=true`` finds it again. A folder that
    the user names by an interpolation, such as ``run_dir=runs/${seed}``, stays as it is.

    Args:
        folder: Folder of a single run.
        overrides: Settings of the run, such as ``seed=1``.
        arguments: Arguments of the command, such as ``seed=0,1``. The settings among them are those
            of all runs.
        in_name: Keys whose values ``folder`` contains, unless the user named it.
    """
    own = [text for text in overrides if text.startswith(("run_dir=", "out="))]
    if any("${" in text for text in own):
        return folder
    of_all_runs = {_SPACE.sub("", text) for text in arguments}  # Hydra drops spaces from settings
    settings = []
    for text in overrides:
        key, _, value = text.lstrip("+~").partition("=")
        in_folder = key in _NO_SETTING or (key in in_name and not own)
        if _SPACE.sub("", text) not in of_all_runs and not in_folder:
            settings.append(re.sub(r"[^A-Za-z0-9._]+", "-", f"{key}-{value}").strip("-."))
    name = "_".join(settings)
    if len(name) > _MAX_LENGTH:
        name = f"{name[:_MAX_LENGTH]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{folder}_{name}" if name else folder

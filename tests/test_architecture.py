"""The shape of the package, as tests: one direction, no circle, short files, a test beside each."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

from l2reg.cli.main import SCRIPTS

ROOT = Path(__file__).parents[1]
# Imports point upwards in this list only: a room may use the rooms above it, and its own files.
ROOMS = [
    "version", "problems", "wording", "shapes", "runtime", "config", "io", "geometry",
    "transforms", "batch", "data", "features", "models", "losses", "optimisation", "phantom",
    "submission", "evaluation", "ranking", "reporting", "checkpoints", "inference", "registration",
    "own_data", "training", "planning", "cli",
]  # fmt: skip
MATHEMATICS = {"geometry", "batch", "features", "models", "losses", "optimisation"}
FILES_WING = {
    "io", "config", "transforms", "data", "phantom", "submission", "evaluation", "ranking",
    "reporting",
}  # fmt: skip
NETWORKS = {"models", "losses", "optimisation", "checkpoints", "inference", "registration",
            "own_data", "training", "planning"}  # fmt: skip
MODULES = sorted((ROOT / "l2reg").rglob("*.py"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


KNOWN = {module_of(module) for module in MODULES}


def room_of(module: str) -> str:
    return module.split(".")[1]


@cache
def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, those under TYPE_CHECKING and in functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (below & KNOWN) or {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_imports_point_up_the_list_of_rooms() -> None:
    for path in MODULES:
        own = module_of(path)
        if own == "l2reg":
            continue  # it hands on what is imported when it is used
        for name in imported(path):
            if name.startswith("l2reg."):
                above = ROOMS.index(room_of(name)) <= ROOMS.index(room_of(own))
                assert above, f"{own} must not know {name}"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): imported(path) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_mathematics_knows_no_file() -> None:
    for path in MODULES:
        own = module_of(path)
        if own == "l2reg" or room_of(own) not in MATHEMATICS:
            continue
        for name in imported(path):
            outside = {"pathlib", "yaml", "nibabel", "os", "json", "shutil"}
            assert name.split(".")[0] not in outside, f"{own} must not know {name}"
            if name.startswith("l2reg."):
                allowed = MATHEMATICS | {"problems", "wording", "shapes", "runtime"}
                assert room_of(name) in allowed, f"{own} must not know {name}"


def test_no_network_in_the_files_wing() -> None:
    for path in MODULES:
        own = module_of(path)
        if own == "l2reg" or room_of(own) not in FILES_WING:
            continue
        for name in imported(path):
            assert not name.startswith("torch.nn") or name == "torch.nn.functional"
            if name.startswith("l2reg."):
                assert room_of(name) not in NETWORKS, f"{own} must not know {name}"


def test_only_the_scripts_know_hydra() -> None:
    scripts = {f"l2reg.cli.{name}" for name in SCRIPTS}
    for path in [path for path in MODULES if module_of(path) not in scripts]:
        assert not {name.split(".")[0] for name in imported(path)} & {"hydra", "omegaconf"}, path


def test_files_stay_short() -> None:
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 300, path


def test_a_room_is_introduced_by_one_sentence() -> None:
    for path in [p for p in MODULES if p.name == "__init__.py"]:
        if path.parent.name == "l2reg":
            continue  # it sets up threads besides
        (sentence,) = ast.parse(path.read_text()).body
        assert isinstance(sentence, ast.Expr)
        assert isinstance(sentence.value, ast.Constant)
        text = str(sentence.value.value)
        assert text.endswith(".")
        assert "\n" not in text
        assert ". " not in text


def test_every_module_has_its_tests() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            continue
        relative = path.relative_to(ROOT / "l2reg")
        beside = ROOT / "tests" / relative.parent / f"test_{relative.name}"
        folder = ROOT / "tests" / relative.parent.parent / f"test_{relative.parent.name}.py"
        assert beside.exists() or folder.exists(), f"{relative} has neither {beside} nor {folder}"


def test_every_room_stands_in_the_list() -> None:
    rooms = {room_of(module_of(path)) for path in MODULES if module_of(path) != "l2reg"}
    assert rooms == set(ROOMS)


def test_the_help_of_the_command_loads_neither_torch_nor_matplotlib_nor_hydra() -> None:
    code = (
        "import sys\n"
        "from l2reg.cli.main import main\n"
        "for words in (['--help'], ['register', '--help'], ['check', '--help']):\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit as stop:\n"
        "        assert stop.code == 0\n"
        "print('loaded:', *sorted({'torch', 'matplotlib', 'scipy', 'hydra'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "usage: l2reg register" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]

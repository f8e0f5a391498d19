import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2reg.config.allowed import FUNCTIONS, SLOTS, ForbiddenTargetError, check_trust, locate
from l2reg.config.build import build
from l2reg.problems import InputError

NAMES = sorted(set(sum(SLOTS.values(), ())))
FORBIDDEN = [
    # functions of MONAI that start programs, download, evaluate files
    "monai.bundle.run", "monai.bundle.scripts.run_workflow", "monai.bundle.download",
    "monai.bundle.load", "monai.apps.download_url", "monai.apps.utils.download_and_extract",
    "monai.utils.run_cmd", "monai.utils.misc.run_cmd", "monai.utils.run_eval",
    "monai.utils.optional_import", "monai.bundle.ConfigParser",
    # functions of PyTorch, and classes of it that are not for the slot
    "torch.load", "torch.hub.load", "torch.nn.utils.clip_grad_norm_", "torch.nn.init.zeros_",
    "torch.nn.Module", "torch.nn.Linear", "torch.nn.Module.apply", "torch.nn.functional.relu",
    "torch.optim.lr_scheduler.LambdaLR", "torch.optim.adamw.AdamW", "torch.jit.load",
    # functions of l2reg that write or delete, its classes of other places, and what it imports
    "l2reg.io.files.prepare_output_folder", "l2reg.io.files.atomic_write",
    "l2reg.io.files.shutil.rmtree", "l2reg.phantom.make.make_phantom",
    "l2reg.phantom.make.phantom_task",
    "l2reg.config.build.build", "l2reg.checkpoints.storage.save", "l2reg.data.dataset.Dataset",
    "l2reg.training.run_folder.subprocess.run", "l2reg.nothing.X", "l2reg.models.unet.torch.load",
    # aliases of a class that may be named under its own name
    "l2reg.inference.prepare.TrainedModel", "l2reg.training.setup.Trainer",
    # methods, dunders, lambdas
    "l2reg.models.unet.UNet.forward", "l2reg.models.unet.UNet.__init__",
    "l2reg.models.unet.__loader__",
    "l2reg.models.unet.__builtins__.eval", "l2reg.models.unet.UNet.__class__", "lambda: 0",
    "l2reg.models.unet.UNet.<lambda>",
    # the standard library and builtins
    "os.system", "builtins.eval", "eval", "subprocess.Popen", "pathlib.Path.unlink", "pickle.loads",
    "importlib.import_module", "posix.system", "nt.system", "functools.partial",
    # Hydra's own
    "hydra.utils.call", "hydra.utils.instantiate", "hydra.utils.get_method",
    "omegaconf.OmegaConf.load",
    # no names
    "", ".", "l2reg.", "l2reg.models.unet.UNet ", "l2reg.models.unet.UNet\n",
    "L2REG.models.unet.UNet",
    None, 3, ["l2reg.models.unet.UNet"], {"_target_": "l2reg.models.unet.UNet"},
]  # fmt: skip


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the user; importing it leaves the file ``imported`` behind."""
    folder = tmp_path / "mypkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("open('imported', 'w').close()\n")
    (folder / "net.py").write_text(
        "from subprocess import Popen\nfrom torch.nn import Linear, Module\n"
        "class TinyNet(Module):\n    def __init__(self, **options): super().__init__()\n"
        "    class Inner(Module): pass\n"
        "class Plain:\n    pass\n"
        "def make(): return TinyNet()\nmake_too = lambda: TinyNet()\nnet = TinyNet()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "mypkg"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_that_of_the_class_itself(name: str) -> None:
    target = locate(name)
    if name.startswith("l2reg."):
        assert f"{target.__module__}.{target.__qualname__}" == name
    assert isinstance(target, type) or name in FUNCTIONS


@pytest.mark.parametrize("slot", ["model", "terms", "optimizer"])
@pytest.mark.parametrize("name", FORBIDDEN, ids=repr)
def test_nothing_else_can_be_named_and_nothing_is_imported_for_it(name: object, slot: str) -> None:
    before = set(sys.modules)
    with pytest.raises(InputError) as error:
        locate(name, slot)
    assert set(sys.modules) == before
    (problem,) = error.value.problems
    assert str(name) in problem.where
    assert problem.what == "cannot be built from a config"
    assert "not on this list" in problem.found
    assert problem.remedy


@pytest.mark.parametrize("module", ["antigravity", "this", "torch.utils.bottleneck"])
def test_a_harmless_module_that_is_not_listed_is_not_imported(module: str) -> None:
    sys.modules.pop(module, None)
    with pytest.raises(InputError):
        build({"_target_": "l2reg.models.backbone.Backbone",
               "network": {"_target_": f"{module}.Thing"}})  # fmt: skip
    assert module not in sys.modules


def test_a_class_is_allowed_in_its_own_slot_alone() -> None:
    assert locate("l2reg.losses.mse.MSE", "terms").__name__ == "MSE"
    for slot in ("model", "loss", "features", "head", "no such slot"):
        with pytest.raises(InputError, match=r"_target_: l2reg\.losses\.mse\.MSE: cannot be built"):
            locate("l2reg.losses.mse.MSE", slot)


def test_a_name_on_the_list_that_is_replaced_by_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("l2reg.losses.mse.MSE", print)
    with pytest.raises(InputError, match=r"(?s)a class that is defined in l2reg.*built-in"):
        locate("l2reg.losses.mse.MSE")
    monkeypatch.setattr("l2reg.losses.mse.MSE", Path)
    with pytest.raises(InputError, match="a class that is defined in l2reg"):
        locate("l2reg.losses.mse.MSE")


@pytest.mark.usefixtures("own_package")
def test_a_package_of_the_user_is_imported_only_if_it_is_trusted() -> None:
    for trust in ([], ["other"], ["mypk"], ["mypkg.other"], ["mypkg.ne"]):
        with pytest.raises(ForbiddenTargetError, match=r"(?s)mypkg\.net\.TinyNet.*trust=\[mypkg\]"):
            locate("mypkg.net.TinyNet", "model", trust)
    assert "mypkg" not in sys.modules
    assert not Path("imported").exists()
    for trust in (["mypkg"], ["mypkg.net"], ["other", "mypkg"]):
        assert locate("mypkg.net.TinyNet", "model", trust).__name__ == "TinyNet"


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize(
    ("name", "slot", "words"),
    [
        ("mypkg.net.Popen", "features", "a class that is defined in mypkg"),
        ("mypkg.net.Linear", "model", "a class that is defined in mypkg"),
        ("mypkg.net.make", "model", "a class that is defined in mypkg"),
        ("mypkg.net.make_too", "model", "a class that is defined in mypkg"),
        ("mypkg.net.net", "model", "a class that is defined in mypkg"),
        ("mypkg.net.TinyNet.forward", "model", "no such name there"),
        ("mypkg.net.TinyNet.Inner", "model", "no such name there"),
        ("mypkg.net.__builtins__", "features", "a class that is defined in mypkg"),
        ("mypkg.net.Plain", "model", r"a subclass of torch\.nn\.Module"),
        ("mypkg.net.Plain", "anything", r"a subclass of torch\.nn\.Module"),
        ("mypkg.net.TinyNet", "optimizer", r"a subclass of torch\.optim\.Optimizer"),
        ("mypkg.none.TinyNet", "model", "no such name there"),
        ("mypkg..TinyNet", "model", "no such name there"),
    ],
)
def test_only_classes_of_a_trusted_package_that_fit_the_slot_can_be_named(
    name: str, slot: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        locate(name, slot, ["mypkg"])


@pytest.mark.usefixtures("own_package")
def test_features_and_losses_of_a_trusted_package_can_be_named_too() -> None:
    assert locate("mypkg.net.Plain", "features", ["mypkg"]).__name__ == "Plain"
    assert locate("mypkg.net.TinyNet", "terms", ["mypkg"]).__name__ == "TinyNet"


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize("key", ["_partial_", "_args_", "_recursive_", "_convert_"])
def test_keys_of_hydra_are_no_arguments_even_of_a_class_that_takes_any(key: str) -> None:
    node = {"_target_": "mypkg.net.TinyNet", "width": 3}
    build(node, "model", ["mypkg"])
    with pytest.raises(InputError, match=rf"unknown \['{key}'\]"):
        build({**node, key: [1]}, "model", ["mypkg"])
    with pytest.raises(InputError, match=rf"unknown \['{key}'\]"):
        build({"_target_": "l2reg.models.zero.Zero", "grid": "half", key: True}, "model")


@pytest.mark.parametrize("trust", ["mypkg", None, 3, [""], ["my pkg"], ["a..b"], ["os;"], [None]])
def test_trust_is_a_list_of_packages(trust: object) -> None:
    with pytest.raises(InputError, match=r"(?s)trust=.*is not a list of packages.*trust=\[mypkg\]"):
        check_trust(trust)
    assert check_trust(["mypkg", "other.net"]) == ("mypkg", "other.net")


def test_the_remedy_names_what_to_trust_only_where_that_can_help() -> None:
    with pytest.raises(ForbiddenTargetError, match=r"trust=\[monai\.networks\.nets\]"):
        locate("monai.networks.nets.UNet", "network")
    for name in ("os.system", "builtins.eval", "l2reg.io.files.atomic_write", "hydra.utils.call"):
        with pytest.raises(InputError) as error:
            locate(name, "model")
        assert "trust=" not in str(error.value)

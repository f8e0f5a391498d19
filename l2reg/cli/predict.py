"""Write displacement fields: ``l2reg predict ckpt=RUN`` or ``... model=zero task=lung``."""

import sys
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from l2reg.config.keys import check_keys, exit_on_interpolation_error
from l2reg.config.multirun import command_arguments, multirun_folder
from l2reg.config.presets import config_dir
from l2reg.problems import exit_on_input_error


@hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name="predict")
def main(cfg: DictConfig) -> None:
    """Predict a split; the command line overrides the config of a checkpoint."""
    with exit_on_interpolation_error():
        config: Any = OmegaConf.to_container(cfg, resolve=True)
    overrides = [text.split("=", 1)[0] for text in HydraConfig.get().overrides.task]
    with exit_on_input_error():
        from l2reg.inference.predict_split import default_out, predict_split, prepare_prediction
        from l2reg.own_data.recognise import is_own_data
        from l2reg.runtime import configure_malloc

        configure_malloc()
        check_keys("predict", config)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            in_name = ("ckpt", "split") if config["ckpt"] else ("model", "task", "split")
            out = config["out"] or str(default_out(config))
            settings = HydraConfig.get().overrides.task
            arguments = command_arguments(HydraConfig.get().sweep.dir)
            config["out"] = multirun_folder(out, settings, arguments, in_name)
        details = None
        if config["report"]:  # drawing takes half a second to import
            from l2reg.inference.prediction_page import prediction_details, write_prediction_page

            details = prediction_details(config)
        if is_own_data(config):
            sys.exit(_predict_own(config, overrides, details))
        job = prepare_prediction(config, overrides)
        prediction = predict_split(
            job.predictor, job.pairs, job.out, config["save"], job.rules, job.notes
        )
        if details is not None:
            page = job.out / "report.html"
            write_prediction_page(page, job, prediction, config["split"], details)
            print(page)
    print(f"submission: {prediction.zip_path}")


def _predict_own(
    config: dict[str, Any], overrides: list[str], details: Mapping[str, Any] | None
) -> int:
    """Register pairs of one's own, and return the exit status: 1 if one failed."""
    from l2reg.own_data.predict import predict_own, prepare_own_prediction
    from l2reg.planning.complete import complete_tasks

    job = prepare_own_prediction(complete_tasks(config, to_train=False), overrides)
    summary = predict_own(job, details)
    if details is not None:
        print(job.out / "report.html")
    print(f"{job.out}: {summary}")
    return 1 if summary.failed else 0

"""Train a registration network: ``python train.py task=lung model=unet [key=value ...]``."""

import signal
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from l2reg.allocator import keep_freed_memory
from l2reg.config import check_keys
from l2reg.engine.training import prepare_training
from l2reg.problems import told_plainly


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train until ``trainer.max_steps``, or until the program is asked to stop."""
    config = OmegaConf.to_container(cfg, resolve=True)
    keep_freed_memory()
    with told_plainly():
        check_keys("train", config)
        trainer = prepare_training(config)

        def stop(*_: object) -> None:
            trainer.stop_requested = True
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second time means it

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        trainer.run()
    run_dir = config["run_dir"]
    if not trainer.finished:
        sys.exit(f"stopped at step {trainer.step}; the same command with resume=true goes on")
    print(f"trained {trainer.step} steps; next: python predict.py ckpt={run_dir} split=val")


if __name__ == "__main__":
    main()

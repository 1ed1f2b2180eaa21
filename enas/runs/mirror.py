"""A copy of a run's curves and pictures for Weights & Biases, which then shows them in its own pages."""

import importlib.util
from pathlib import Path
from typing import Any

from enas.errors import UserError


def check_account() -> None:
    """Raise UserError unless wandb is there, and knows an account or needs none."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError("wandb is not installed; pip install 'enas[wandb]', or leave --wandb out")
    import wandb  # takes a second, and is an extra

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        raise UserError("wandb knows no account; wandb login names one, and WANDB_MODE=offline does without")


class Mirror:
    """`Curves` in a run of Weights & Biases, with these settings, that is named like the run folder, and lies in it.

    With WANDB_MODE=offline everything stays on this machine; `wandb sync` uploads it later.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project="enas",
            id=folder.name,
            name=folder.name,
            dir=folder,
            config=settings,
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )
        # A resumed run writes some steps again, which wandb's own count of steps would refuse.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: dict[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def picture(self, tag: str, path: Path, step: int) -> None:
        self._run.log({tag: self._wandb.Image(str(path)), "step": step})

    def close(self) -> None:
        self._run.finish()

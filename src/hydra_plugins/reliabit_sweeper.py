"""Hydra's sweeper, with the unquantized baseline beside every sweep and all cells checked before the first runs.

Hydra loads sweepers from the namespace `hydra_plugins` only; this is the one module that Reliabit keeps there.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import DictConfig

from reliabit.composition import to_config
from reliabit.tracking.baselines import with_baselines
from reliabit.tracking.sweep_parent import raise_refusal


class BaselineSweeper(BasicSweeper):
    """A grid over the command line's lists, run by whichever launcher is configured."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells, unless the sweep's parent run was refused."""
        # Hydra only warns when a callback raises.
        raise_refusal()
        if self._swept().sweep.on_failure == "stop":
            # The basic sweeper looks at results after each batch, and raises where one failed.
            self.max_batch_size = 1
        return super().sweep(arguments)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The next cells to launch; the first batch carries the baselines."""
        batch = [list(cell) for cell in super().get_job_batch()]
        return with_baselines(batch) if self._swept().sweep.baseline else batch

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check every cell, so that a mistake in the last one is found before the first one runs."""
        for cell in batch:
            to_config(self._loader().load_sweep_config(self._swept(), list(cell)))

    def _swept(self) -> DictConfig:
        if self.config is None:
            raise RuntimeError("Hydra sets the sweeper up before it asks for cells")
        return self.config

    def _loader(self) -> Any:
        if self.hydra_context is None:
            raise RuntimeError("Hydra sets the sweeper up before it asks for cells")
        return self.hydra_context.config_loader

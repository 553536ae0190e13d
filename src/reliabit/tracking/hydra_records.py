"""What Hydra leaves beside a job's output, written without credentials.

Hydra itself writes the configuration as it was composed, before any of our code runs: the password of an address, and
every variable that a job is to set, as they are. So it is told to write nothing (`hydra.output_subdir: null`).
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reliabit.files import replacing
from reliabit.tracking.redaction import redact_config

RECORDS = ".hydra"
"""The folder below a job's output that Hydra's own records have."""


def write_records(config: DictConfig, folder: Path) -> None:
    """Write what was composed for a job, what Hydra was told, and the overrides.

    Args:
        config: The composed configuration, Hydra's own included.
        folder: Where the three files go.
    """
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    records = {"config.yaml": task, "hydra.yaml": OmegaConf.masked_copy(config, ["hydra"])}
    for name, record in {**records, "overrides.yaml": config.hydra.overrides.task}.items():
        write_redacted(record, folder / name)


def write_redacted(config: Any, path: Path) -> None:
    """Write a configuration, references unresolved, as Hydra does, but without credentials."""
    told = OmegaConf.create(redact_config(OmegaConf.to_container(config, resolve=False)))
    with replacing(path) as unfinished:
        unfinished.write_text(OmegaConf.to_yaml(told), encoding="utf-8")

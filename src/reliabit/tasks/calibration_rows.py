"""The questions that a data-aware quantizer learns from; identities hold a digest of them, however they are found."""

from pathlib import Path
from typing import Any

from reliabit.config import CalibrationConfig, Config
from reliabit.data.chat import draw_chats
from reliabit.data.prepare import load_split, prepare
from reliabit.data.table import first_images
from reliabit.errors import ReliabitError
from reliabit.metrics import one_per_image
from reliabit.tasks.questions import source_spec


def calibration_rows(config: Config) -> list[dict[str, Any]]:
    """Questions with answers, one an image: of a chat file, or of a split of the configured data set.

    Raises:
        ReliabitError: There are fewer images than were asked for.
    """
    wanted = config.quant.calibration
    rows = _chat_rows(wanted) if wanted.chat is not None else _table_rows(config, wanted)
    if len(rows) < wanted.images:
        raise ReliabitError(
            f"quant.calibration.images={wanted.images} is more than the {len(rows)} images there are; lower it"
        )
    return rows


def _table_rows(config: Config, wanted: CalibrationConfig) -> list[dict[str, Any]]:
    table = load_split(prepare(source_spec(config.data), root=Path(config.paths.data)), wanted.split)
    table = first_images(table, wanted.images)
    return list(table.select(one_per_image(table["image_id"], seed=wanted.seed)))


def _chat_rows(wanted: CalibrationConfig) -> list[dict[str, Any]]:
    rows = draw_chats(
        Path(wanted.chat or ""), images=Path(wanted.chat_images or ""), count=wanted.images, seed=wanted.seed
    )
    return [dict(row) for row in rows]

"""The questions that a data-aware quantizer learns from; identities hold a digest of them, however they are found."""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from reliabit.config import Config
from reliabit.data.bad_samples import FAIL, BadSamples, judged, summary, tell
from reliabit.data.chat import draw_chats
from reliabit.data.image_decoding import image_size
from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.table import first_images
from reliabit.errors import ReliabitError
from reliabit.metrics import one_per_image
from reliabit.models.admission import Admission
from reliabit.models.loading import load_admission
from reliabit.quant.settings import CalibrationConfig

FOLDER = "calibration"
"""Below `paths.cache`: where what is measured on them is kept, and what of them could not be used is listed."""


def calibration_rows(config: Config) -> list[dict[str, Any]]:
    """Questions with answers, one an image: of a chat file, or of a split of the configured data set.

    Those that cannot be read, or that the model does not take, are bad samples: they end the task, or are listed and
    replaced by others, as `data.on_bad_sample` says.

    Raises:
        ReliabitError: There are fewer images than were asked for, or bad samples that are not to be skipped.
    """
    wanted, on_bad_sample = config.quant.calibration, config.data.on_bad_sample
    admission = load_admission(config.model, answer_tokens=0)
    path = Path(config.paths.cache) / FOLDER / f"{config.model.name}.bad_samples.jsonl"
    source = f"the calibration set of {config.model.name}"
    with judged(path, source=source, on_bad_sample=on_bad_sample) as bad:
        drawn = _chat_rows(wanted, bad) if wanted.chat is not None else _table_rows(config, wanted)
        rows = list(islice((row for row in drawn if _taken(row, admission, bad)), wanted.images))
        # Where bad samples end the task anyway, they are what is said.
        if len(rows) < wanted.images and not (bad.counts and on_bad_sample == FAIL):
            raise ReliabitError(
                f"quant.calibration.images={wanted.images} is more than the {len(rows)} images there are; lower it"
            )
    if bad.counts:
        tell(f"{source}: {summary(bad.by_problem())}; they are left out and listed in {path}")
    return rows


def calibration_digest(config: Config) -> str | None:
    """A digest of the questions, answers and images that a data-aware quantizer is calibrated on; `None` for others."""
    if not config.quant.is_calibrated:
        return None
    digest = sha256()
    for row in calibration_rows(config):
        digest.update(sha256(row["image"]).digest())
        digest.update(json.dumps({key: row[key] for key in sorted(row) if key != "image"}).encode())
    return digest.hexdigest()


def _taken(row: dict[str, Any], admission: Admission, bad: BadSamples) -> bool:
    """Whether the model takes a question with its answer; otherwise it is listed."""
    size = image_size(row["image"], item=f"image {row['image_id']!r} of {row['source']}")
    [refusal] = admission.answered_refusals([row["question"]], [row["answers"][0]], [size])
    if refusal is not None:
        ids = {"question_id": row["question_id"], "image_id": row["image_id"]}
        bad.add(refusal.problem, **ids, detail=refusal.detail)
    return refusal is None


def _table_rows(config: Config, wanted: CalibrationConfig) -> Iterator[dict[str, Any]]:
    """One question of each of the first images, and then of the others, should some of the first be bad."""
    table = load_split(prepare(config.data, root=Path(config.paths.data)), wanted.split)
    first = first_images(table, wanted.images)
    # Drawn apart, so that what is drawn of the first does not depend on whether others are needed.
    yield from first.select(one_per_image(first["image_id"], seed=wanted.seed))
    if len(first) < len(table):
        others = table.select(range(len(first), len(table)))
        yield from others.select(one_per_image(others["image_id"], seed=wanted.seed))


def _chat_rows(wanted: CalibrationConfig, bad: BadSamples) -> Iterator[dict[str, Any]]:
    drawn = draw_chats(Path(wanted.chat or ""), images=Path(wanted.chat_images or ""), seed=wanted.seed, bad=bad)
    return (dict(row) for row in drawn)

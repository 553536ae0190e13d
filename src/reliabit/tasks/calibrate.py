"""`task=calibrate`: measure calibration statistics and write them, for all widths at once."""

import json
import sys

from reliabit.config import Config
from reliabit.tasks.calibrated import encoder_of, load_batches, load_statistics
from reliabit.tasks.runtime import set_up


def calibrate(config: Config) -> None:
    """Write the statistics of the configured model, unless they are there, and say where and what they are.

    Raises:
        ReliabitError: Nothing can be learned from the calibration set.
    """
    from reliabit.quant.mbq.store import RECORD

    set_up(config)
    encoder = encoder_of(config.model)
    batches = load_batches(config, encoder)
    statistics = load_statistics(config, batches, decoder_layers=encoder.adapter.decoder_layers)
    record = json.loads((statistics.folder / RECORD).read_text(encoding="utf-8"))
    counts = ", ".join(f"{count} {kind}" for kind, count in record["tokens"].items())
    sys.stdout.write(f"{statistics.folder}: {record['sequences']} sequences, {counts} tokens\n")
    for layer, places in enumerate(record["ratios"]):
        for place, found in places.items():
            sys.stdout.write(
                f"  layer {layer} {place}: image tokens count {found['estimate']:.4f} "
                f"[{found['low']:.4f}, {found['high']:.4f}] of answer tokens\n"
            )

"""A Selector's files: its weights as safetensors, and as JSON what it is, what it reads and what it has seen."""

import json
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.selector import SelectorNetwork, TrainedSelector
from reliabit.confidence.settings import SelectorSettings
from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.settings import check

WEIGHTS = "selector.safetensors"
CARD = "selector.json"
FORMAT = 1


def save_selector(selector: TrainedSelector, folder: Path) -> list[Path]:
    """Write a Selector into a folder, beside whatever else is there.

    The card names the digest of the weights, so that a card and weights of two different Selectors never load as one.

    Args:
        selector: What to write.
        folder: Where `selector.safetensors` and `selector.json` appear, each whole or not at all.

    Returns:
        These two files.
    """
    weights = save({name: tensor.contiguous() for name, tensor in selector.network.state_dict().items()})
    card = {
        "format": FORMAT,
        "weights_sha256": sha256(weights).hexdigest(),
        # One seed trained it, whichever others there were.
        "settings": {name: value for name, value in asdict(selector.settings).items() if name != "seeds"},
        "widths": dict(selector.widths),
        "seed": selector.seed,
        "epoch": selector.epoch,
        "val_aurc": selector.val_aurc,
        "history": selector.history,
        "versions": {name: version(name) for name in ("reliabit", "torch", "lightning", "numpy")},
        "fitted_on": asdict(selector.fitted_on),
    }
    with replacing(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(weights)
    with replacing(folder / CARD) as unfinished:
        unfinished.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return [folder / CARD, folder / WEIGHTS]


def load_selector(folder: Path) -> TrainedSelector:
    """Read a Selector that `save_selector` wrote; its confidences are the same to the bit on the same machine.

    Raises:
        ReliabitError: A file is missing, damaged, of another Selector or of another version.
    """
    card, weights = _read(folder / CARD), _read(folder / WEIGHTS)
    described = _parse_card(card, folder / CARD)
    if sha256(weights).hexdigest() != described["weights_sha256"]:
        raise ReliabitError(
            f"{folder / WEIGHTS} is damaged or belongs to another Selector than {CARD}; train the Selector again"
        )
    try:
        settings = SelectorSettings(**described["settings"])
        check(settings, key="settings")
        widths = {name: int(described["widths"][name]) for name in settings.inputs}
        network = SelectorNetwork(sum(widths.values()), hidden=settings.hidden, dropout=settings.dropout)
        network.load_state_dict(load(weights))
        return TrainedSelector(
            network=network.eval().requires_grad_(False),
            settings=settings,
            widths=widths,
            seed=int(described["seed"]),
            epoch=int(described["epoch"]),
            val_aurc=float(described["val_aurc"]),
            history=tuple(described["history"]),
            fitted_on=FittedOn(**{role: tuple(digests) for role, digests in described["fitted_on"].items()}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ReliabitError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{folder / CARD} does not describe its weights ({reason}); train it again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReliabitError(f"the Selector's file {path} cannot be read ({error.strerror}); train it first") from error


def _parse_card(text: bytes, path: Path) -> dict[str, Any]:
    try:
        card = json.loads(text)
    except ValueError as error:
        raise ReliabitError(f"{path} is damaged ({error}); train the Selector again") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or "weights_sha256" not in card:
        raise ReliabitError(f"{path} is not the card of a Selector in format {FORMAT}; train the Selector again")
    return card

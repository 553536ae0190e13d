"""The unquantized baseline beside every sweep: without it, nobody can say what a width costs."""

from collections.abc import Sequence

Cell = list[str]


def with_baselines(cells: Sequence[Cell]) -> list[Cell]:
    """Put the unquantized baseline before the cells of a sweep, once for all that differ in `quant` alone.

    Args:
        cells: The overrides of each cell.

    Returns:
        The cells, with baselines first and every cell once.

    >>> with_baselines([["quant.bits=4"], ["quant.bits=2"]])
    [['quant=none'], ['quant.bits=4'], ['quant.bits=2']]
    >>> with_baselines([["quant=none", "quant.bits=4"], ["quant=hqq", "quant.bits=4"]])
    [['quant=none'], ['quant=hqq', 'quant.bits=4']]
    """
    baselines = [[*(part for part in cell if _key(part).split(".")[0] != "quant"), "quant=none"] for cell in cells]
    quantized = [cell for cell in cells if "quant=none" not in cell]
    unique: list[Cell] = []
    for cell in [*baselines, *quantized]:
        if cell not in unique:
            unique.append(cell)
    return unique


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")

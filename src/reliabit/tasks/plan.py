"""The quantization plan that a configuration describes."""

from reliabit.quant.plan import Plan, plan_from_config
from reliabit.quant.settings import QuantConfig


def build_plan(quant: QuantConfig) -> Plan:
    """The plan that a configuration describes.

    Raises:
        ReliabitError: A rule names what there is not.
    """
    defaults = {
        "method": quant.method,
        "bits": quant.bits,
        "group_size": quant.group_size,
        "zero": quant.zero,
        "solver": quant.solver,
        "p_norm": quant.p_norm,
    }
    return plan_from_config(quant.rules, defaults=defaults)

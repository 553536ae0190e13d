"""Quantization: grids and solvers, packed layers, plans, checkpoints, kernels, export and sizes.

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reliabit.quant.checkpoint import (
        checkpoint_bytes,
        copy_processor,
        load_checkpoint,
        save_checkpoint,
    )
    from reliabit.quant.components import COMPONENTS, component_of, layer_of
    from reliabit.quant.convert import ConvertedModule, Report, packed_modules, quantize_model
    from reliabit.quant.embedding import QuantEmbedding
    from reliabit.quant.estimate import Footprint, Part, footprint
    from reliabit.quant.export import export_compressed_tensors, exportable_plan
    from reliabit.quant.grid import Layout, QuantizedWeight, dequantize
    from reliabit.quant.hook import register_when_imported
    from reliabit.quant.linear import QuantLinear, kernels_of
    from reliabit.quant.mbq.batch import CalibrationBatch
    from reliabit.quant.mbq.calibration import collect
    from reliabit.quant.mbq.decoder import ResidentDecoder
    from reliabit.quant.mbq.identity import CollectionSettings, folder_digest, statistics_key
    from reliabit.quant.mbq.scaling import Calibration
    from reliabit.quant.mbq.search import GroupScale
    from reliabit.quant.mbq.settings import SearchSettings
    from reliabit.quant.mbq.store import Statistics, read_statistics
    from reliabit.quant.packed import PackedWeight
    from reliabit.quant.plan import Plan, Rule, Scheme, default_plan, plan_from_config, resolve
    from reliabit.quant.plugin import register
    from reliabit.quant.size import Size, model_size
    from reliabit.quant.solve import quantize_weight

_HOMES = {
    "COMPONENTS": "components",
    "Calibration": "mbq.scaling",
    "CalibrationBatch": "mbq.batch",
    "CollectionSettings": "mbq.identity",
    "ConvertedModule": "convert",
    "Footprint": "estimate",
    "GroupScale": "mbq.search",
    "Layout": "grid",
    "PackedWeight": "packed",
    "Part": "estimate",
    "Plan": "plan",
    "QuantEmbedding": "embedding",
    "QuantLinear": "linear",
    "QuantizedWeight": "grid",
    "Report": "convert",
    "ResidentDecoder": "mbq.decoder",
    "Rule": "plan",
    "Scheme": "plan",
    "SearchSettings": "mbq.settings",
    "Size": "size",
    "Statistics": "mbq.store",
    "checkpoint_bytes": "checkpoint",
    "collect": "mbq.calibration",
    "component_of": "components",
    "copy_processor": "checkpoint",
    "default_plan": "plan",
    "dequantize": "grid",
    "export_compressed_tensors": "export",
    "exportable_plan": "export",
    "folder_digest": "mbq.identity",
    "footprint": "estimate",
    "kernels_of": "linear",
    "layer_of": "components",
    "load_checkpoint": "checkpoint",
    "model_size": "size",
    "packed_modules": "convert",
    "plan_from_config": "plan",
    "quantize_model": "convert",
    "quantize_weight": "solve",
    "read_statistics": "mbq.store",
    "register": "plugin",
    "register_when_imported": "hook",
    "resolve": "plan",
    "save_checkpoint": "checkpoint",
    "statistics_key": "mbq.identity",
}

__all__ = [
    "COMPONENTS",
    "Calibration",
    "CalibrationBatch",
    "CollectionSettings",
    "ConvertedModule",
    "Footprint",
    "GroupScale",
    "Layout",
    "PackedWeight",
    "Part",
    "Plan",
    "QuantEmbedding",
    "QuantLinear",
    "QuantizedWeight",
    "Report",
    "ResidentDecoder",
    "Rule",
    "Scheme",
    "SearchSettings",
    "Size",
    "Statistics",
    "checkpoint_bytes",
    "collect",
    "component_of",
    "copy_processor",
    "default_plan",
    "dequantize",
    "export_compressed_tensors",
    "exportable_plan",
    "folder_digest",
    "footprint",
    "kernels_of",
    "layer_of",
    "load_checkpoint",
    "model_size",
    "packed_modules",
    "plan_from_config",
    "quantize_model",
    "quantize_weight",
    "read_statistics",
    "register",
    "register_when_imported",
    "resolve",
    "save_checkpoint",
    "statistics_key",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

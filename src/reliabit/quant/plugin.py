"""The checkpoint format as a plug-in of transformers: plain `from_pretrained` and `save_pretrained` know it.

`config.json` says which module was quantized by which method into which layout; `model.safetensors` holds the packed
buffers beside what stayed as it was. Importing this module registers the format.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from reliabit.errors import ReliabitError
from reliabit.quant.checkpoint_files import check_shards
from reliabit.quant.grid import Layout
from reliabit.quant.layers import replace_by_empty
from reliabit.quant.packed import PackedWeight
from reliabit.quant.record import FORMAT_VERSION, OUR_FORMAT, check_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ReliabitConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """`quantization_config` in `config.json`.

    Attributes:
        quant_method: The name the format is registered under.
        format_version: Rises with every change that an older reader would misread.
        schemes: For each way of quantizing, its method, its layout and the names of its modules.
    """

    def __init__(
        self,
        schemes: list[dict[str, Any]] | None = None,
        format_version: int = FORMAT_VERSION,
        quant_method: str = OUR_FORMAT,
        **unknown: object,
    ) -> None:
        """Check the version before anything else: what follows may mean something else in a newer one."""
        check_record({"format_version": format_version, "schemes": schemes or []})
        if unknown:
            raise ReliabitError(f"the checkpoint's quantization_config has unknown keys {sorted(unknown)}")
        self.quant_method = quant_method
        self.format_version = format_version
        self.schemes = schemes or []

    def layouts(self) -> dict[str, Layout]:
        """The layout of each quantized module; one that is named twice is refused."""
        found: dict[str, Layout] = {}
        for scheme in self.schemes:
            layout = Layout(scheme["bits"], scheme["group_size"], scheme["zero"], scheme["metadata"])
            for name in scheme["modules"]:
                if name in found:
                    raise ReliabitError(f"the checkpoint's quantization_config names {name} twice")
                found[name] = layout
        return found


class ReliabitQuantizer(HfQuantizer):  # type: ignore[misc]
    """Swaps in packed layers before the weights are loaded, and checks that all of them arrived."""

    requires_calibration = True
    quantization_config: ReliabitConfig

    def _process_model_before_weight_loading(
        self, model: "PreTrainedModel", checkpoint_files: list[str] | None = None, **kwargs: object
    ) -> None:
        check_shards(checkpoint_files or [])
        for name, layout in self.quantization_config.layouts().items():
            replace_by_empty(model, name, layout)

    def _process_model_after_weight_loading(self, model: "PreTrainedModel", **kwargs: object) -> None:
        # transformers marks each tensor that it read; what it did not find it makes up, with a warning only. What is
        # spread over memory and disk is read when it is used.
        missing = [
            name
            for name, tensor in model.state_dict(keep_vars=True).items()
            if isinstance(tensor, Tensor) and not tensor.is_meta and not getattr(tensor, "_is_hf_initialized", False)
        ]
        if missing:
            raise ReliabitError(
                f"the checkpoint lacks {len(missing)} of the model's tensors, {missing[0]} among them; "
                "a shard is of another model or not whole"
            )
        _check_packed_shapes(model)

    def is_serializable(self) -> bool:
        """Whether `save_pretrained` may write the model."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether adapters may be trained on the model."""
        return False


def register() -> None:
    """Make the format known to transformers; calling it again changes nothing."""
    if OUR_FORMAT not in AUTO_QUANTIZER_MAPPING:
        register_quantization_config(OUR_FORMAT)(ReliabitConfig)
        register_quantizer(OUR_FORMAT)(ReliabitQuantizer)


def attach(model: "PreTrainedModel", schemes: list[dict[str, Any]]) -> None:
    """Tell a model that was quantized in memory what it is, so that `save_pretrained` writes it down."""
    config = getattr(model.config, "quantization_config", None)
    known = config.schemes if isinstance(config, ReliabitConfig) else []
    model.config.quantization_config = ReliabitConfig([*known, *schemes])
    model.hf_quantizer = ReliabitQuantizer(model.config.quantization_config)


def _check_packed_shapes(model: nn.Module) -> None:
    """Check that packed weights have the shapes of their layouts; transformers before 5.23 takes any.

    >>> layer = PackedWeight(4, 64, Layout(bits=4, group_size=64))
    >>> layer.weight_codes = layer.weight_codes[:, 1:]
    >>> _check_packed_shapes(nn.ModuleDict({"lm_head": layer}))
    Traceback (most recent call last):
    reliabit.errors.ReliabitError: weight_codes of lm_head is [4, 31], and 4 bits make it [4, 32]; the checkpoint's ...
    """
    for name, module in model.named_modules():
        if not isinstance(module, PackedWeight):
            continue
        for part, expected in PackedWeight(module.rows, module.columns, module.layout, device="meta").named_buffers():
            found = module.get_buffer(part)
            if found.shape != expected.shape:
                raise ReliabitError(
                    f"{part} of {name} is {list(found.shape)}, and {module.layout.bits} bits make it "
                    f"{list(expected.shape)}; the checkpoint's weights are not those that its config.json tells of"
                )


# However this module comes to be imported (through the hook, or before transformers is), the format is known after it.
register()

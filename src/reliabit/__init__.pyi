from . import metrics as metrics
from . import quant as quant
from .errors import ReliabitError as ReliabitError
from .interface import answer as answer
from .interface import certify as certify
from .interface import evaluate as evaluate
from .interface import load as load
from .interface import measure as measure
from .quant.checkpoint_io import save_checkpoint as save_checkpoint
from .quant.convert import quantize_model as quantize_model

__version__: str

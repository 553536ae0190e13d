from . import metrics as metrics
from . import quant as quant
from .asking import answer as answer
from .asking import load as load
from .errors import ReliabitError as ReliabitError
from .measuring import certify as certify
from .measuring import evaluate as evaluate
from .measuring import measure as measure
from .quant.checkpoint_io import save_checkpoint as save_checkpoint
from .quant.convert import quantize_model as quantize_model

__version__: str

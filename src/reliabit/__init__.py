"""Reliabit: how far can a multimodal model be compressed before its answers stop being trustworthy?

Importing the package makes its checkpoint format known to transformers, and imports neither torch nor transformers.
What `__init__.pyi` names is imported when it is first used; see docs/python.md.
"""

from lazy_loader import attach_stub

from reliabit.quant.hook import register_when_imported

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

register_when_imported()

"""Reliabit: how far can a multimodal model be compressed before its answers stop being trustworthy?

Importing the package makes its checkpoint format known to transformers, and imports neither torch nor transformers.
"""

from reliabit.quant.hook import register_when_imported

__version__ = "0.1.0"

register_when_imported()

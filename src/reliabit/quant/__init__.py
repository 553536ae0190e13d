"""Quantization: grids and methods, packed layers, plans, checkpoints, kernels, export and sizes.

Names are loaded from the modules that `__init__.pyi` tells of when they are first used, so that importing the package
costs nothing.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

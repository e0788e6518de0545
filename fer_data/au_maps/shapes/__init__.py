"""The kinds of region that a codebook can be written in, one file each; importing the package registers them all.

To add a kind: a module here with a class that fulfils :class:`Shape`, decorated with ``@register_shape``.
"""

import importlib
import pkgutil

from aupipe.fer_data.au_maps.shapes.base import SHAPES, Region, Shape, register_shape, shape_class

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["SHAPES", "Region", "Shape", "register_shape", "shape_class"]

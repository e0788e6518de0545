"""The methods, one file each; importing the package registers them all.

Files that register nothing are what several methods share, or one method alone: ``base``, and ``excitation`` for PRM.
"""

import importlib
import pkgutil

from aupipe.fer_models.methods.base import (
    METHODS,
    Method,
    Prediction,
    create_method,
    method_class,
    method_name,
    method_names,
    method_title,
    option_defaults,
    parse_options,
    register,
    training_name,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "METHODS",
    "Method",
    "Prediction",
    "create_method",
    "method_class",
    "method_name",
    "method_names",
    "method_title",
    "option_defaults",
    "parse_options",
    "register",
    "training_name",
]

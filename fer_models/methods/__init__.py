"""The methods, one file each; importing the package registers them all."""

import importlib
import pkgutil

from aupipe.fer_models.methods.base import (
    METHODS,
    Method,
    Prediction,
    create_method,
    method_class,
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
    "option_defaults",
    "parse_options",
    "register",
    "training_name",
]

"""The methods, one file each; importing the package registers them."""

from fer_models.methods import cam as _cam  # noqa: F401
from fer_models.methods.base import METHODS, Method, Prediction, create_method, method_class, register

__all__ = ["METHODS", "Method", "Prediction", "create_method", "method_class", "register"]

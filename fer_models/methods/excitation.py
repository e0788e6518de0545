"""Excitation back-propagation: winning probabilities back through a network ( Zhang et al., ECCV 2016).

Inside ``with Excitation():`` a network computes what it always computes, but going backwards, its operations hand down
probabilities instead of derivatives: ``torch.autograd.grad`` with a probability at each output gives the probability
that each input has won. No module is changed, so any network of these operations will do:

- convolutions, linear layers and average pooling share a unit's probability among its inputs u in proportion to
  ``relu(u) relu(W)`` (Zhou et al., CVPR 2018, equations 3 and 4), so what went in comes out again, except at units that
  nothing excites, where it ends;
- a sum of two maps (a residual connection) shares it in proportion to their positive parts;
- normalisations and activations work on each unit by itself and hand it on unchanged;
- where one map scales another (squeeze and excitation, layer scale), the scaled map gets all of it, the smaller gate
  none; two maps of one size get half each;
- maximum pooling, concatenation, slicing and reshaping already do the right thing: their derivative is the rule.

Of any other operation the derivative is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Callable[..., tuple[Tensor | None, ...]]
"""``rule(probability, *operands)`` gives each operand's share, or None for none."""

FLOOR = 1e-20
"""Excitation below which a unit counts as not excited."""


class Excitation(TorchFunctionMode):
    """Context in which the operations of the module's text get the backward pass described there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Replace an operation that has a rule."""
        kwargs = kwargs or {}
        handle = HANDLERS.get(func)
        return func(*args, **kwargs) if handle is None else handle(func, args, kwargs)


class _Ruled(torch.autograd.Function):
    """An operation on operands whose backward pass is a rule. ``in_place``: it overwrites the first of them."""

    @staticmethod
    def forward(ctx: Any, operation: Callable[..., Tensor], rule: Rule, in_place: bool, *operands: Tensor) -> Tensor:
        ctx.rule = rule
        if in_place:
            ctx.save_for_backward(operands[0].clone(), *operands[1:])
            ctx.mark_dirty(operands[0])
        else:
            ctx.save_for_backward(*operands)
        return operation(*operands)

    @staticmethod
    def backward(ctx: Any, *probability: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *ctx.rule(*probability, *ctx.saved_tensors))


def excite(operation: Callable[[Tensor], Tensor], probability: Tensor, operand: Tensor) -> Tensor:
    """Share out by what each positive part contributes to ``operation``, which is linear with weights of 0 or more."""
    positive = operand.detach().float().clamp_min(0).requires_grad_()
    with torch.enable_grad():
        total = operation(positive)
    excited = total > FLOOR
    each = torch.where(excited, probability / total.where(excited, 1.0), 0.0)
    (back,) = torch.autograd.grad(total, positive, each)
    return (back * positive).detach()


def _ruled(operation: Callable[..., Tensor], rule: Rule, *operands: Tensor, in_place: bool = False) -> Tensor:
    result: Tensor = _Ruled.apply(operation, rule, in_place, *operands)  # type: ignore[no-untyped-call]
    return result


def _keep(probability: Tensor, _operand: Tensor) -> tuple[Tensor]:
    return (probability,)


def _weighted(func: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Convolutions and linear layers: ``func(input, weight, bias, ...)``."""
    value, weight, *rest = args
    names = ("bias", "stride", "padding", "dilation", "groups")
    settings = {**dict(zip(names, rest, strict=False)), **kwargs}
    bare = {name: setting for name, setting in settings.items() if name != "bias"}

    def rule(probability: Tensor, operand: Tensor) -> tuple[Tensor]:
        strength = weight.detach().float().clamp_min(0)
        return (excite(lambda positive: func(positive, strength, **bare), probability, operand),)

    return _ruled(lambda operand: func(operand, weight, **settings), rule, value)


def _pooled(func: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Average pooling."""
    value, *rest = args

    def pool(operand: Tensor) -> Tensor:
        return func(operand, *rest, **kwargs)

    return _ruled(pool, lambda probability, operand: (excite(pool, probability, operand),), value)


def _one_to_one(func: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Normalisations and activations; those told to work in place get a copy, as their result is what is used."""
    value, *rest = args
    return _ruled(lambda operand: func(operand.clone(), *rest, **kwargs), _keep, value)


def _binary(rule: Rule, in_place: bool = False) -> Callable[..., Tensor]:
    """Sums and products of two maps, or of a map and a number."""

    def handle(func: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        left, right = args
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            return _ruled(lambda a, b: func(a, b, **kwargs), rule, left, right, in_place=in_place)
        if isinstance(left, Tensor):
            return _ruled(lambda a: func(a, right, **kwargs), _keep, left, in_place=in_place)
        return _ruled(lambda b: func(left, b, **kwargs), _keep, right)

    return handle


def _sum_rule(probability: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if left.shape != right.shape:
        return _scale_rule(probability, left, right)
    a, b = left.float().clamp_min(0), right.float().clamp_min(0)
    total = a + b
    excited = total > FLOOR
    first = probability * torch.where(excited, a / total.where(excited, 1.0), 0.5)
    return first, probability - first


def _scale_rule(probability: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if left.shape == right.shape:
        return probability / 2, probability / 2
    first, second = (probability if one.shape == probability.shape else None for one in (left, right))
    return first, second


HANDLERS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.linear), _weighted),
    **dict.fromkeys((F.avg_pool2d, F.adaptive_avg_pool2d), _pooled),
    **dict.fromkeys((F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm), _one_to_one),
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish), _one_to_one),
    **dict.fromkeys((F.hardtanh, F.hardsigmoid, torch.sigmoid, torch.tanh, F.softplus), _one_to_one),
    **dict.fromkeys((torch.add, Tensor.add), _binary(_sum_rule)),
    Tensor.add_: _binary(_sum_rule, in_place=True),
    **dict.fromkeys((torch.mul, Tensor.mul, torch.div, Tensor.div), _binary(_scale_rule)),
    **dict.fromkeys((Tensor.mul_, Tensor.div_), _binary(_scale_rule, in_place=True)),
}
"""Operators such as ``a + b`` and ``a *= b`` arrive here as the methods they stand for."""

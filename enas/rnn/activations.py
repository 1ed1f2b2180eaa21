"""The functions of activations, found by name; `register_activation` adds one."""

import functools
import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.rnn.cell import ACTIVATIONS, Activation
from enas.search.own_code import note_owner


def register_activation(name: str, function: str | Callable[[Tensor], Tensor], colour: str = "white") -> None:
    """Let cells have one more activation, named in `--shared_rnn_activations`.

    `function` is elementwise and differentiable by autograd, or its dotted name; `colour` is the colour of its nodes in
    drawings. UserError if the name is taken, or the function has parameters.
    """
    if name in ACTIVATIONS:
        raise UserError(f"activation {name} is registered already; choose another name")
    if not isinstance(function, str) and _has_parameters(function):
        example = "lambda x: torch.nn.functional.leaky_relu(x, 0.25)"
        raise UserError(f"activation {name} has parameters, which no run trains or saves; give one without: {example}")
    note_owner(name)
    ACTIVATIONS[name] = Activation(function, colour)


def _has_parameters(function: Callable[[Tensor], Tensor]) -> bool:
    owner = getattr(function, "__self__", function)  # of a bound method
    if isinstance(owner, nn.Module) and next(owner.parameters(), None) is not None:
        return True
    with torch.enable_grad():
        return function(torch.zeros(1)).requires_grad


_found = functools.cache(pkgutil.resolve_name)


def activate(name: str, x: Tensor) -> Tensor:
    """Apply activation `name` to a tensor; the shape stays."""
    function = ACTIVATIONS[name].function
    return (_found(function) if isinstance(function, str) else function)(x)


def differentiate(name: str, grad: Tensor, x: Tensor) -> Tensor:
    """Multiply `grad` by the derivative of activation `name` at `x`, by autograd; the shape stays."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(activate(name, x), x, grad)[0]

"""What the activations of the recurrent search space compute, found by name, and how to add one.

from enas.rnn.activations import register_activation
register_activation("sine", torch.sin, colour="#CC9DBE")
"""

import functools
import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.rnn.cell import ACTIVATIONS, Activation


def register_activation(name: str, function: str | Callable[[Tensor], Tensor], colour: str = "white") -> None:
    """Let cells have one more activation, named in `--shared_rnn_activations`.

    `function` is elementwise and differentiable by autograd, or the dotted name of such a function; `colour` is that of
    its nodes in drawings. UserError when the name is taken, or the function has parameters.
    """
    if name in ACTIVATIONS:
        raise UserError(f"activation {name} is registered already; choose another name")
    if not isinstance(function, str) and _has_parameters(function):
        raise UserError(
            f"activation {name} has parameters, which no run trains or saves; give a function without any, such as "
            "lambda x: torch.nn.functional.leaky_relu(x, 0.25)"
        )
    ACTIVATIONS[name] = Activation(function, colour)


def _has_parameters(function: Callable[[Tensor], Tensor]) -> bool:
    owner = getattr(function, "__self__", function)  # of a bound method
    if isinstance(owner, nn.Module) and next(owner.parameters(), None) is not None:
        return True
    with torch.enable_grad():
        return function(torch.zeros(1)).requires_grad


_found = functools.cache(pkgutil.resolve_name)


def activate(name: str, x: Tensor) -> Tensor:
    """Activation `name` of a tensor: the same shape."""
    function = ACTIVATIONS[name].function
    return (_found(function) if isinstance(function, str) else function)(x)


def differentiate(name: str, grad: Tensor, x: Tensor) -> Tensor:
    """`grad` times the derivative of activation `name` at `x`, by autograd: the same shape."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(activate(name, x), x, grad)[0]

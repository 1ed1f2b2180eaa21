"""The dropouts of a language model (Merity et al. 2017, sections 2, 4.2, 4.3).

p = 0 or `training=False` is the identity.

Shapes: T steps, M architectures, B batch, E embedding, H hidden, V vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F

from enas.search.ranks import WHOLE, Part


def embedding_dropout(weight: Tensor, words: Tensor, p: float, training: bool) -> Tensor:
    """Look `words` […] up in `weight` [V, E]: […, E], with dropped words zero wherever they stand, others over 1−p."""
    embedded = F.embedding(words, weight)
    if not training or p == 0:
        return embedded
    kept = weight.new_empty(weight.shape[0]).bernoulli_(1 - p) / (1 - p)  # [V]
    return embedded * kept[words].unsqueeze(-1)


def locked_dropout(x: Tensor, p: float, training: bool, part: Part = WHOLE) -> Tensor:
    """Drop the same units at every step of `x` [T, …]: variational dropout (Gal & Ghahramani 2016)."""
    mask = dropout_mask(x[0], p, training, part)
    return x if mask is None else x * mask


def dropout_mask(like: Tensor, p: float, training: bool, part: Part = WHOLE) -> Tensor | None:
    """What dropout multiplies a tensor like `like` by: 0, or 1/(1−p). None where it changes nothing.

    If `like` is the `part` of a tensor, the mask is that part of the whole tensor's. A tensor without the divided
    dimension is the same in every process.
    """
    if not training or p == 0:
        return None
    shape, is_divided = list(like.shape), -part.dim <= like.dim()
    if is_divided:
        shape[part.dim] *= part.count
    mask = like.new_empty(shape).bernoulli_(1 - p) / (1 - p)
    return part.of(mask) if is_divided else mask

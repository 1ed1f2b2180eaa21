"""The dropouts of a language model (Merity et al. 2017, sections 2, 4.2, 4.3).

p = 0 or `training=False` is the identity.

Shapes: T steps, M architectures, B batch, E embedding, H hidden, V vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F

from enas.search.ranks import WHOLE, Part


def embedding_dropout(weight: Tensor, words: Tensor, p: float, training: bool) -> Tensor:
    """Look `words` […] up in `weight` [V, E]: […, E], with dropped words zero wherever they stand, others over 1−p."""
    embedded, mask = F.embedding(words, weight), dropout_mask(weight[:, 0], p, training)  # mask is [V]
    return embedded if mask is None else embedded * mask[words].unsqueeze(-1)


def locked_dropout(x: Tensor, p: float, training: bool, part: Part = WHOLE) -> Tensor:
    """Drop the same units at every step of `x` [T, …]: variational dropout (Gal & Ghahramani 2016)."""
    mask = dropout_mask(x[0], p, training, part)
    return x if mask is None else x * mask


def dropout_mask(like: Tensor, p: float, training: bool, part: Part = WHOLE) -> Tensor | None:
    """Draw the factors 0 and 1/(1−p) by which dropout multiplies a tensor like `like`; None if it changes nothing.

    If `like` is the `part` of a tensor, the mask is this part of the whole tensor's mask. A tensor without the divided
    dimension has the same mask in every process.
    """
    if not training or p == 0:
        return None
    shape, is_divided = list(like.shape), -part.dim <= like.dim()
    if is_divided:
        shape[part.dim] *= part.count
    mask = like.new_empty(shape).bernoulli_(1 - p) / (1 - p)
    return part.of(mask) if is_divided else mask

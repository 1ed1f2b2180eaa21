"""The search space of modules given in Python: one registration serves all modules that hold an `enas.Choice`."""

from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name

from enas.errors import UserError
from enas.rnn.settings import SharedOptimConfig
from enas.search.architecture import Architecture
from enas.search.metric import Metric
from enas.search.registry import SearchSpace


@dataclass(frozen=True)
class ModuleChoices(Architecture):
    """The part taken at each Choice of a module, in the order of `Module.named_modules`."""

    type_name, title, keys = "module_choices", "a choice of parts", ("chosen",)

    chosen: tuple[str, ...]  # CHOICE=PART: the name of the Choice in the module, and the name of the part

    def __post_init__(self) -> None:
        if not all(isinstance(one, str) for one in self.chosen):
            raise UserError(f"chosen is {self.chosen!r:.80}; it must hold texts like mix=gru")


MODULE = SearchSpace(
    name="module",
    settings=(SharedOptimConfig,),
    architecture=ModuleChoices,
    train_types=("orig", "random"),
    problem=partial(resolve_name, "enas.choice.problem:PROBLEM"),  # loads torch
    optim=SharedOptimConfig,
    metric=Metric("score", decimals=4, higher_is_better=True),
    by_command=False,
)

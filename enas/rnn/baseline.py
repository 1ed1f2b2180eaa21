"""The baseline that is not searched: a plain LSTM in place of an architecture."""

from dataclasses import dataclass
from typing import ClassVar

from enas.errors import UserError
from enas.search.architecture import Architecture


@dataclass(frozen=True)
class LSTMBaseline(Architecture):
    """A plain LSTM of one layer with `hidden` units; UserError when that is not a positive integer."""

    type_name: ClassVar = "lstm"
    title: ClassVar = "an LSTM"
    keys: ClassVar = ("hidden",)

    hidden: int

    def __post_init__(self) -> None:
        if type(self.hidden) is not int or self.hidden < 1:
            raise UserError(f"hidden of an LSTM is {self.hidden!r}; it must be a positive integer")

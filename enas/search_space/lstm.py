"""The baseline that is not searched: a plain LSTM, in the place of an architecture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LSTMBaseline:
    """A plain LSTM of one layer.

    Attributes:
        hidden: its units.

    Raises:
        ValueError: when that is no positive integer.
    """

    hidden: int

    def __post_init__(self):
        if type(self.hidden) is not int or self.hidden < 1:
            raise ValueError(f"hidden of an LSTM is {self.hidden!r}; it must be a positive integer")

    def to_dict(self) -> dict:
        """A JSON-ready dictionary that `from_dict` reads."""
        return {"type": "lstm", "hidden": self.hidden}

    @classmethod
    def from_dict(cls, data: dict) -> "LSTMBaseline":
        """The LSTM of a dictionary made by `to_dict`; ValueError when it is none."""
        if not isinstance(data, dict) or set(data) != {"type", "hidden"} or data["type"] != "lstm":
            raise ValueError(f"an LSTM needs the keys type (lstm) and hidden; found {data!r}")
        return cls(data["hidden"])

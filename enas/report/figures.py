"""The curves of a page, as plotly figures without colours of a background: the page has light and dark ones."""

import itertools
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from enas.report.record import Record

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
CLEAR = "rgba(0,0,0,0)"


def curves(records: Sequence[Record]) -> list[go.Figure]:
    """Scores, rewards, entropy, and seconds an epoch: a figure each, the runs side by side."""
    figures = []
    for name in dict.fromkeys(record.metric.name for record in records):
        alike = [record for record in records if record.metric.name == name]
        lines = _lines(alike, f"train_{name}", "train", "dot") + _lines(alike, f"validation_{name}", "validation")
        figures.append(_figure(lines, name))
    figures += [_figure(_lines(records, name, name), name) for name in ("reward", "entropy")]
    figures.append(_figure(_lines(records, "wall_seconds", "", difference=True), "seconds an epoch"))
    return [figure for figure in figures if figure.data]


def _lines(
    records: Sequence[Record], name: str, label: str, dash: str = "solid", difference: bool = False
) -> list[go.Scatter]:
    lines = []
    for record, colour in zip(records, itertools.cycle(COLOURS), strict=False):
        epochs, values = record.curve(name)
        if difference:
            values = [end - start for start, end in zip([0, *values], values, strict=False)]
        if values:
            title = " · ".join(filter(None, [label, record.name if len(records) > 1 or not label else ""]))
            lines.append(_line(epochs, values, title, {"color": colour, "dash": dash}))
    return lines


def comparison(record: Record) -> go.Figure | None:
    """Median and quartiles of the policy's samples and of uniform ones over the epochs; None where there are none."""
    traces = []
    for who, colour in (("policy", COLOURS[0]), ("uniform", COLOURS[6])):
        epochs, medians = record.curve(who, "median")
        lower, upper = (record.curve(who, f"{end}_quartile")[1] for end in ("lower", "upper"))
        above = [end - median for end, median in zip(upper, medians, strict=True)]
        below = [median - end for end, median in zip(lower, medians, strict=True)]
        if medians:
            bars = {"array": above, "arrayminus": below}
            traces.append(_line(epochs, medians, who, {"color": colour}, error_y=bars))
    if not traces:
        return None
    _, compared_by = record.curve("compared_by")
    return _figure(traces, compared_by[0].replace("_", " "))


def _line(epochs: list[int], values: list[Any], name: str, style: dict[str, str], **more: Any) -> go.Scatter:
    return go.Scatter(x=epochs, y=values, name=name, mode="lines+markers", line=style, **more)


def _figure(traces: Sequence[go.Scatter], y_title: str) -> go.Figure:
    figure = go.Figure(traces)
    epochs = [epoch for trace in traces for epoch in trace.x]
    figure.update_xaxes(title="epoch", dtick=-(-max(epochs) // 10) if epochs else None)
    figure.update_yaxes(title=y_title, automargin=True)
    return figure.update_layout(
        template="none",
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        height=360,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "font": {"size": 10}},
        font={"family": "system-ui, sans-serif", "size": 12},
    )

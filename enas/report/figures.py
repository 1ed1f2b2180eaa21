"""The figures of a page, as plotly figures without colours of a background: the page has light and dark ones."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from enas.pictures.animation import open_picture
from enas.report.record import Ablation, Policy, Record

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
CLEAR = "rgba(0,0,0,0)"


def curves(records: Sequence[Record]) -> list[go.Figure]:
    """Scores, rewards, entropy, and seconds an epoch: a figure each, the runs side by side."""
    figures = [
        _figure(_scores([record for record in records if record.metric.name == name]), name)
        for name in dict.fromkeys(record.metric.name for record in records)
    ]
    figures += [_figure(_lines(records, name), name) for name in ("reward", "entropy")]
    figures.append(_figure(list(_times(records)), "seconds an epoch"))
    return [figure for figure in figures if figure.data]


def _scores(records: Sequence[Record]) -> list[go.Scatter]:
    lines = []
    for part, dash in (("train", "dot"), ("validation", "solid")):
        lines += _lines(records, f"{part}_{records[0].metric.name}", dash, part)
    return lines


def _lines(records: Sequence[Record], name: str, dash: str = "solid", label: str = "") -> list[go.Scatter]:
    lines = []
    for record, colour in _coloured(records):
        epochs, values = record.curve(name)
        if values:
            title = " ".join(filter(None, [label or name, f"· {record.name}" if len(records) > 1 else ""]))
            style = {"color": colour, "dash": dash}
            lines.append(go.Scatter(x=epochs, y=values, name=title, mode="lines+markers", line=style))
    return lines


def _times(records: Sequence[Record]) -> Iterable[go.Scatter]:
    for record, colour in _coloured(records):
        epochs, ends = record.curve("wall_seconds")
        seconds = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        yield go.Scatter(x=epochs, y=seconds, name=record.name, mode="lines+markers", line={"color": colour})


def comparison(record: Record) -> go.Figure | None:
    """Median and quartiles of the policy's samples and of uniform ones over the epochs; None where there are none."""
    traces = []
    for who, colour in (("policy", COLOURS[0]), ("uniform", COLOURS[6])):
        epochs, medians = record.compared(who, "median")
        lower, upper = (record.compared(who, f"{end}_quartile")[1] for end in ("lower", "upper"))
        if medians:
            above = [end - median for end, median in zip(upper, medians, strict=True)]
            below = [median - end for end, median in zip(lower, medians, strict=True)]
            bars, style = {"array": above, "arrayminus": below}, {"color": colour}
            traces.append(go.Scatter(x=epochs, y=medians, error_y=bars, name=who, mode="lines+markers", line=style))
    if not traces:
        return None
    compared_by = next(entry["compared_by"] for entry in record.results["history"] if "compared_by" in entry)
    return _figure(traces, compared_by.replace("_", " "))


def heat_map(policy: Policy) -> go.Figure:
    """The probability of every choice at every evaluation."""
    trace = go.Heatmap(
        x=[str(epoch) for epoch in policy.epochs],
        y=[f"{index} · {name}" for index, name in enumerate(policy.choices)],
        z=policy.probabilities,
        zmin=0,
        zmax=1,
        colorscale="Blues",
        hovertemplate="epoch %{x}<br>%{y}<br>probability %{z:.3f}<extra></extra>",
    )
    figure = _figure([trace], "")
    labels = {"tickvals": trace.y, "ticktext": policy.choices, "autorange": "reversed", "tickfont": {"size": 9}}
    figure.update_yaxes(**labels)
    figure.update_xaxes(type="category")
    return figure.update_layout(height=130 + 13 * len(policy.choices))


def over_time(record: Record) -> go.Figure | None:
    """The pictures of a run's architecture behind a slider; None where there are none."""
    if not record.pictures:
        return None
    sources = [_embedded(picture.read_bytes()) for picture in record.pictures]
    width, height = open_picture(record.pictures[-1]).size
    figure = go.Figure()
    picture = {
        "source": sources[-1], "xref": "paper", "yref": "paper", "x": 0.5, "y": 1, "sizex": 1, "sizey": 1,
        "xanchor": "center", "yanchor": "top", "sizing": "contain", "layer": "above",
    }  # fmt: skip
    figure.add_layout_image(picture)
    steps = [
        {"method": "relayout", "label": path.stem.split("-")[0], "args": [{"images[0].source": source}]}
        for path, source in zip(record.pictures, sources, strict=True)
    ]
    if len(steps) > 1:
        label = {"prefix": "epoch "}
        figure.update_layout(sliders=[{"active": len(steps) - 1, "currentvalue": label, "steps": steps}])
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    tall = min(900, max(360, round(640 * height / width)))
    return _styled(figure).update_layout(height=tall + 120, dragmode=False, margin={"l": 10, "r": 10, "t": 10, "b": 90})


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def changes(ablation: Ablation) -> go.Figure:
    """What each edit of an ablation changes, on validation and test."""
    rows = ablation.rows[1:]
    bars = [
        go.Bar(x=[row["edit"] for row in rows], y=[row[f"{split}_change"] for row in rows], name=split)
        for split in ("validation", "test")
    ]
    figure = _figure(bars, f"change in {ablation.metric}")
    figure.update_xaxes(title="")
    return figure.update_layout(colorway=COLOURS)


def methods(evaluation: dict[str, Any]) -> go.Figure:
    """What each method of an evaluation reached from scratch, one dot a seed."""
    dots = [
        go.Box(y=found["scores"], name=name, boxpoints="all", jitter=0.4, pointpos=0, line={"color": colour})
        for (name, found), colour in zip(
            evaluation["methods"].items(), _cycled(len(evaluation["methods"])), strict=True
        )
    ]
    figure = _figure(dots, f"validation {evaluation['metric']} from scratch")
    figure.update_xaxes(title="")
    return figure.update_layout(showlegend=False)


def _coloured(records: Sequence[Record]) -> Iterable[tuple[Record, str]]:
    return zip(records, _cycled(len(records)), strict=True)


def _cycled(num: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(num)]


def _figure(traces: Sequence[Any], y_title: str) -> go.Figure:
    figure = _styled(go.Figure(list(traces)))
    epochs = [x for trace in traces if isinstance(trace, go.Scatter) for x in trace.x]
    figure.update_xaxes(title="epoch", dtick=-(-max(epochs) // 10) if epochs else None)
    figure.update_yaxes(title=y_title, automargin=True)
    return figure


def _styled(figure: go.Figure) -> go.Figure:
    return figure.update_layout(
        template="none",
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        height=360,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "font": {"size": 10}},
        font={"family": "system-ui, sans-serif", "size": 12},
    )

"""A recurrent cell found by neural architecture search (ENAS), as loops over time and nodes. Needs torch only.

    c_0 = σ(x·Wxc + h·Whc)        h_0 = c_0 ⊙ f_0(x·Wxh + h·Whh) + (1 − c_0) ⊙ h
    c_j = σ(h_i·Wc_ij)            h_j = c_j ⊙ f_j(h_i·Wh_ij) + (1 − c_j) ⊙ h_i

The output, which is the next state, is the mean of the cell's output nodes (Pham et al. 2018, section 2.1). A copy of
this file is the model.py of an exported cell: `Cell` has the nodes of config.json, `LanguageModel` is the run's model.

Shapes: T steps, B batch, E input, H hidden, V vocabulary.
"""

import json
import math
import runpy
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import reduce
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).resolve().parent
STEPS = 32  # of a text that are read at once: bounds the memory of logits


def found_at(place: Any, folder: str | Path = HERE) -> Any:
    """Return a function, given itself or its dotted name; modules whose names begin with own_ are files of a folder."""
    if callable(place):
        return place
    module, _, name = place.rpartition(".")
    return runpy.run_path(f"{folder}/{module}.py")[name] if module.startswith("own_") else resolve_name(place)


class Nodes(NamedTuple):
    """The nodes of a cell."""

    activations: list[Callable[[Tensor], Tensor]]  # f_0, f_1, …
    edges: list[tuple[int, int]]  # (i, j) for each node j but the first, which reads node i
    outputs: list[int]  # the labels of the output nodes

    @classmethod
    def of(cls, cell: Mapping[str, Any], functions: Mapping[str, Any], folder: str | Path = HERE) -> "Nodes":
        """Read the nodes of an architecture; `functions` are the dotted names of activations, see `found_at`."""
        nodes, previous = cell["nodes"], cell["previous"]
        outputs = [node for node in nodes if node not in previous]
        if cell["cell_output"] == "all":
            outputs = nodes[1:] or nodes
        activations = [found_at(functions[name], folder) for name in cell["activations"]]
        return cls(activations, list(zip(previous, nodes[1:], strict=True)), outputs)


def highway(parent: Tensor, products: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Return c ⊙ f(a_h) + (1 − c) ⊙ parent, [B, H], with c = σ(a_c) and `products` = [a_c, a_h], [B, 2H]."""
    gate, value = products.chunk(2, dim=-1)
    gate, value = torch.sigmoid(gate), activation(value)
    return torch.lerp(parent, value.to(parent.dtype), gate.to(parent.dtype))  # under autocast products have another one


def step(
    cell: Nodes,
    projected: Tensor,
    state: Tensor,
    w_state: Tensor,
    edges: Mapping[tuple[int, int], Tensor],
    norm_bound: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the state [B, H] after one step.

    Args:
        cell, projected, state: the nodes, x·[Wxc, Wxh], [B, 2H], and h, the state before the step, [B, H].
        w_state, edges: [Whc, Whh], [H, 2H], and [Wc_ij, Wh_ij] of each edge of the cell, [H, 2H].
        norm_bound: a state of a larger Euclidean norm is scaled down to it, because some activations grow without end.
        mask: dropout of the states that products read, [B, H].
    """

    def product(h: Tensor, weight: Tensor) -> Tensor:
        return (h if mask is None else h * mask) @ weight

    nodes = {0: highway(state, projected + product(state, w_state), cell.activations[0])}
    for (previous, node), activation in zip(cell.edges, cell.activations[1:], strict=True):
        parent = nodes[previous]
        nodes[node] = highway(parent, product(parent, edges[previous, node]), activation)
    output = reduce(torch.add, [nodes[node] for node in cell.outputs]) / len(cell.outputs)
    norm = torch.linalg.vector_norm(output, dim=-1, keepdim=True)
    return output * (norm_bound / norm.clamp_min(1e-12)).clamp_max(1.0)


def sequence(cell: Nodes, projected: Tensor, state: Tensor, *weights: Any, **settings: Any) -> Tensor:
    """Return the states [T, B, H] over a sequence: `projected` is [T, B, 2H], the rest as for `step`."""
    if isinstance(projected.shape[0], torch.SymInt):  # torch.export with a length that is known later
        from torch._higher_order_ops import scan

        return scan(lambda h, x: (h := step(cell, x, h, *weights, **settings), h.clone()), state, projected)[1]
    states = []
    for inputs in projected.unbind(0):
        state = step(cell, inputs, state, *weights, **settings)
        states.append(state)
    return torch.stack(states)


class Cell(nn.Module):
    """The recurrent network; arguments and results are those of torch.nn.GRU.

    A gate's and a value's weights are side by side. `config` is a config.json, or changes of the one beside this file.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **config: Any,
    ):
        super().__init__()
        found = config if "architecture" in config else read(**config)
        self.cell = Nodes.of(found["architecture"], found["activations"], found.get("folder", HERE))
        self.config, self.norm_bound = found, found["norm_bound"]
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.layers = nn.ModuleList()  # the directions of a layer side by side
        for number in range(num_layers * (1 + bidirectional)):
            size = input_size if number <= bidirectional else hidden_size * (1 + bidirectional)
            rows = {"w_input": size, "w_state": hidden_size, **{f"w_{i}_{j}": hidden_size for i, j in self.cell.edges}}
            weights = [(k, torch.empty(num, 2 * hidden_size, device=device, dtype=dtype)) for k, num in rows.items()]
            self.layers.append(nn.ParameterDict(weights))
        for weight in self.parameters():
            nn.init.uniform_(weight, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, input: Any, hx: Tensor | None = None, lengths: Any = None) -> tuple[Any, Tensor]:
        """Return the states of the last layer, [T, B, D·H] like the input, and the last states, like `hx`.

        Args:
            input: [T, B, E], with batch_first [B, T, E], one sequence [T, E], or a packed sequence.
            hx: the states before, of each layer and its D directions, [layers·D, B, H] or [layers·D, H]; by default 0.
            lengths: the steps of each of B padded sequences; states after them are zeros.
        """
        if isinstance(input, PackedSequence):
            padded, lengths = pad_packed_sequence(input)
            output, last = self._run(padded, hx, lengths)
            order = torch.arange(len(lengths)) if input.sorted_indices is None else input.sorted_indices
            packed = pack_padded_sequence(output[:, order], lengths[order.cpu()])
            return PackedSequence(packed.data, *input[1:]), last
        if input.dim() not in (2, 3):
            raise ValueError(f"input has {input.dim()} dimensions; it must be a batch, of 3, or one sequence, of 2")
        if input.dim() == 2:
            output, last = self._run(input.unsqueeze(1), None if hx is None else hx.unsqueeze(1), lengths)
            return output.squeeze(1), last.squeeze(1)
        output, last = self._run(input.transpose(0, 1) if self.batch_first else input, hx, lengths)
        return output.transpose(0, 1) if self.batch_first else output, last

    def _run(self, inputs: Tensor, hx: Tensor | None, lengths: Any) -> tuple[Tensor, Tensor]:
        (steps, batch, size), directions, device = inputs.shape, 1 + self.bidirectional, inputs.device
        shape = (len(self.layers), batch, self.hidden_size)
        hx = inputs.new_zeros(shape) if hx is None else hx
        if steps == 0 or size != self.input_size:
            raise ValueError(f"input has {steps} steps of {size} features; it must have some, of {self.input_size}")
        if hx.shape != shape:
            raise ValueError(f"hx is {[*hx.shape]}; it must be {[*shape]}: layers · directions, batch, hidden_size")
        if lengths is not None or self.bidirectional:
            time, column = torch.arange(steps, device=device).unsqueeze(1), torch.arange(batch, device=device)  # [T, 1]
            ends = time[-1] + 1 if lengths is None else torch.as_tensor(lengths, dtype=torch.long, device=device)
            if lengths is not None and (ends.shape != (batch,) or ((ends < 1) | (ends > steps)).any()):
                raise ValueError(f"lengths are {ends.tolist()}; they must be {batch} numbers from 1 to {steps}")
            back = torch.where(time < ends, ends - 1 - time, time)  # each sequence from its own end, [T, B]
        outputs, last = [], []
        for number, layer in enumerate(self.layers):
            if number and number % directions == 0:
                inputs, outputs = nn.functional.dropout(torch.cat(outputs, -1), self.dropout, self.training), []
            turn = (lambda x: x[back, column]) if number % directions else (lambda x: x)
            edges = {(i, j): layer[f"w_{i}_{j}"] for i, j in self.cell.edges}
            projected = turn(inputs) @ layer["w_input"]
            states = sequence(self.cell, projected, hx[number], layer["w_state"], edges, self.norm_bound)
            last.append(states[-1] if lengths is None else states[ends - 1, column])
            outputs.append(turn(states))
        output = torch.cat(outputs, -1)
        return output if lengths is None else output * (time < ends).unsqueeze(2), torch.stack(last)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **settings: Any) -> Any:
        """Load weights, which may be those of a language model: a cell leaves the others out."""
        rest = {"embedding", "decoder", "decoder_bias", "norm_scale", "norm_shift", "norm_mean", "norm_variance"}
        kept = {name: weight for name, weight in state_dict.items() if name not in rest - {*self.state_dict()}}
        return super().load_state_dict(kept, *args, **settings)

    @classmethod
    def load(cls, folder: str | Path = HERE, device: Any = None, dtype: Any = None, **changes: Any) -> Self:
        """Return a folder's module with its weights, in evaluation mode; `changes` are arguments."""
        module = cls(**{**read(folder, **changes), "device": device, "dtype": dtype})
        module.load_state_dict(read_weights(Path(folder) / "model.safetensors"))
        return module.eval()


class LanguageModel(Cell):
    """The run's language model: as its cell, with numbers of words [T, B] in, and logits [T, B, V] out.

    Arguments are the content of a config.json. ValueError with batch_first.
    """

    def __init__(self, **config: Any):
        super().__init__(**config)
        if self.batch_first:
            raise ValueError("batch_first is True; a language model takes words as [T, B], and it must be False")
        self.numbers, hidden = {word: number for number, word in enumerate(config["vocabulary"])}, self.hidden_size
        self.embedding = nn.Parameter(torch.zeros(len(self.numbers), self.input_size))
        self.decoder = None if config["tie_weights"] else nn.Parameter(torch.zeros(len(self.numbers), hidden))
        self.decoder_bias = nn.Parameter(torch.zeros(len(self.numbers)))
        self.by_batch = False  # statistics that normalise states
        for name in ("scale", "shift", "mean", "variance") if config["batch_norm"] else ():
            self.register_buffer(f"norm_{name}", torch.zeros(hidden))
        self.to(device=config.get("device"), dtype=config.get("dtype"))

    def forward(self, input: Any, hx: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Return the logits of the next words, [T, B, V], and the last states, like `hx`; see `Cell.forward`."""
        states, last = self.states(input, hx, lengths)
        return states @ (self.embedding if self.decoder is None else self.decoder).t() + self.decoder_bias, last

    def states(self, words: Tensor, hx: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Return the states that the decoder reads, [T, B, H], and the last states of the cell."""
        scale = 1.0 if self.config["shared_plain_start"] else self.input_size**0.5
        states, last = super().forward(nn.functional.embedding(words, self.embedding) * scale, hx, lengths)
        if not self.config["batch_norm"]:
            return states, last
        mean, variance = self.norm_mean, self.norm_variance
        if self.by_batch:  # of each step, as the search did
            variance, mean = torch.var_mean(states, dim=1, correction=0, keepdim=True)
        return (states - mean) * (torch.rsqrt(variance + 1e-5) * self.norm_scale) + self.norm_shift, last

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text's words, [words], each line ending in <eos>; ValueError for an unknown word."""
        words, by_word = [], self.config["text_unit"] == "word"
        for line in text.removeprefix("\ufeff").removesuffix("\n").split("\n") if text else []:
            found = line.split() if by_word else list(line.rstrip("\r"))
            words += found if by_word and found[-1:] == ["<eos>"] else [*found, "<eos>"]
        numbers = [self.numbers.get(word, self.numbers.get("<unk>")) for word in words]
        if None in numbers:
            raise ValueError(f"{words[numbers.index(None)]!r} is not in the vocabulary, which has no <unk>")
        return torch.tensor(numbers, dtype=torch.long, device=self.embedding.device)

    @torch.no_grad()
    def perplexity(self, text: str | Tensor, columns: int = 0) -> float:
        """Return the perplexity of a text, or of numbers of words, in `columns` that are read side by side.

        By default it is computed as the run's on validation: in as many columns, with batch statistics if it had them.
        """
        words = self.encode(text) if isinstance(text, str) else text
        if len(words) == 0:
            raise ValueError("the text has no words; it needs at least one")
        if columns < 0:
            raise ValueError(f"columns is {columns}; it must be at least 1, or 0 for those of the run")
        pieces = torch.arange(len(words)).tensor_split(min(columns or self.config["batch_size"], len(words)))
        first, ends = (torch.stack([piece[end] for piece in pieces]).to(words.device) for end in (0, -1))
        total, hx, reader = 0.0, None, copy(self)  # with the same weights
        reader.by_batch = not columns
        for time in torch.arange(len(pieces[0]), device=words.device).unsqueeze(1).split(STEPS):  # [T, 1]
            place = first + time  # [T, B]; the word before the first one is the last one, <eos>
            logits, hx = reader(words[place - 1], hx)
            wanted = words[place.clamp(max=len(words) - 1)]
            losses = nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
            total += float(losses[place <= ends].double().sum())
        return math.exp(total / len(words))

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the states that the decoder reads of each text, [texts, H]; ValueError for no words."""
        words = [] if isinstance(texts, str) else [self.encode(text) for text in texts]
        if not words or min(map(len, words)) == 0:
            raise ValueError("features need at least one text, and each text at least one word; give a list of texts")
        states, _ = self.states(nn.utils.rnn.pad_sequence(words))
        return torch.stack([states[: len(each), number].mean(0) for number, each in enumerate(words)])

    @torch.no_grad()
    def generate(self, text: str = "", num: int = 50, temperature: float = 1.0) -> str:
        """Return the text with `num` more words, drawn by their probabilities, which `temperature` < 1 sharpens."""
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}; it must be a number above 0")
        read, hx, gap = self.encode("\n" + text), None, " " if self.config["text_unit"] == "word" else ""
        read = read if text[-1:] in ("", "\n") else read[:-1]  # the line goes on
        text += gap if text and not text[-1].isspace() else ""
        for _ in range(num):
            logits, hx = self(read.unsqueeze(1), hx)
            if "<unk>" in self.numbers:
                logits[..., self.numbers["<unk>"]] = -math.inf
            read = (logits[-1, 0] / temperature).softmax(0).multinomial(1)
            word = self.config["vocabulary"][int(read)]
            text += "\n" if word == "<eos>" else word + gap
        return text


build = LanguageModel  # the module of a folder, given the content of its config.json


def read(folder: str | Path = HERE, **changes: Any) -> dict[str, Any]:
    """Return an exported folder's config.json, with changes and the "folder"; TypeError for unknown changes."""
    if not (path := Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{path}: no such file; give the folder of an export, as in Cell.load(folder)")
    config = {**json.loads(path.read_text(encoding="utf-8")), "folder": str(folder)}
    if unknown := [name for name in changes if name not in config]:
        raise TypeError(f"{', '.join(unknown)}: no such argument; there are {', '.join(config)}")
    return {**config, **changes}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of safetensors: the length of a header, the header as JSON, and the numbers."""
    data, types = bytearray(path.read_bytes()), {"F32": torch.float32, "I64": torch.int64}
    start = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, place in json.loads(data[8:start]).items():
        if name != "__metadata__":
            settings = {"dtype": types[place["dtype"]], "offset": start + place["data_offsets"][0]}
            weights[name] = torch.frombuffer(data, count=math.prod(place["shape"]), **settings).view(place["shape"])
    return weights

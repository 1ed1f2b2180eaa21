"""Load the cell with the weights that the search found, and train a stack of it anew: python example.py"""

import json
from pathlib import Path

import torch
from model import Cell
from safetensors.torch import load_file

folder = Path(__file__).resolve().parent
config = json.loads((folder / "config.json").read_text())

cell = Cell(config["input_size"], config["hidden_size"])
cell.load_state_dict(load_file(folder / "model.safetensors"))
output, state = cell(torch.randn(35, 2, config["input_size"]))  # [steps, batch, input]
print("states", tuple(output.shape), "last state", tuple(state.shape))

stack = Cell(32, 64, num_layers=2, batch_first=True)
optimizer = torch.optim.Adam(stack.parameters(), lr=1e-3)
inputs, wanted = torch.randn(8, 20, 32), torch.randn(8, 20, 64).tanh()
for step in range(3):
    loss = (stack(inputs)[0] - wanted).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, "loss", round(loss.item(), 4))

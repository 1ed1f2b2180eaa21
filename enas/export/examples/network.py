"""Load the network with the weights that the search found, and classify noise: python example.py"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from model import Network

network = Network()
network.load_state_dict(load_file(Path(__file__).resolve().parent / "model.safetensors"))
network.eval()
images = torch.randn(4, 3, 32, 32)
with torch.no_grad():
    print("features", tuple(network.features(images).shape), "classes", network(images).argmax(1).tolist())

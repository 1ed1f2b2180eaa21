"""A GPU computes what the CPU does, and draws what the run draws."""

import copy

import pytest
import tiny
import torch
from torch.testing import assert_close

from enas.config import Config
from enas.rnn.cell import RNNCell
from enas.rnn.settings import SharedRNNConfig
from enas.rnn.shared import SharedRNN
from enas.runs import run
from enas.runs.opening import read_run
from enas.search.precision import use
from enas.search.ranks import Ranks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CELLS = [
    RNNCell(("tanh", "ReLU", "sigmoid", "tanh"), (0, 1, 1)),
    RNNCell(("sigmoid", "identity", "tanh", "ReLU"), (0, 0, 1), cell_output="all"),
    RNNCell(("ReLU", "identity"), (0,)),
]


@pytest.fixture(autouse=True)
def exact_afterwards():
    yield
    use("float32", torch.device("cuda"))


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_shared_model_on_a_gpu_equals_it_on_a_cpu(precision):
    torch.manual_seed(0)
    sizes = {"shared_embed": 72, "shared_hid": 72, "num_blocks": 4, "shared_norm_bound": 4.0}
    cpu = SharedRNN(50, SharedRNNConfig(**{**tiny.CALM, **sizes}))
    gpu = copy.deepcopy(cpu).to("cuda")
    use(precision, torch.device("cuda"))
    gpu.precision = precision
    for seed in range(3):
        torch.manual_seed(seed)
        inputs, targets = torch.randint(50, (2, 9, 6))
        state, outcomes = torch.randn(3, 6, 72), []
        for model, device in ((cpu, "cpu"), (gpu, "cuda")):
            model.zero_grad()
            loss, output = model.loss(inputs.to(device), targets.to(device), CELLS, state.to(device))
            loss.backward()
            grads = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
            scores, _ = model.score(inputs.to(device), targets.to(device), CELLS, state.to(device))
            outcomes.append(((loss.detach().cpu(), output.last.detach().cpu(), scores.cpu()), grads))
        # Rounded gradients differ by more: here and there the other side of a ReLU is on.
        tolerance, of_gradients = {"float32": (1e-5, 1e-4), "tf32": (5e-3, 0.15), "bfloat16": (5e-2, 0.4)}[precision]
        assert_close(outcomes[1][0], outcomes[0][0], rtol=tolerance, atol=tolerance, check_dtype=False)
        assert outcomes[0][1].keys() == outcomes[1][1].keys()
        for name, grad in outcomes[0][1].items():
            other = outcomes[1][1][name]
            assert (other - grad).norm() <= of_gradients * grad.norm(), name


def test_a_run_and_an_evaluation_neither_change_nor_depend_on_the_random_state_of_the_gpu(tmp_path):
    ends = []
    for seed in (1, 2):
        torch.cuda.manual_seed(seed)
        before = torch.cuda.get_rng_state()
        config = Config(**tiny.settings(tmp_path / str(seed), num_gpu=1, max_epoch=1))
        ends.append(run.train(config)["validation_perplexity"])
        folder = tiny.only_run(tmp_path / str(seed) / "logs")
        assert read_run(run.saved_config(folder), folder).derive().comparison
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert_close(*ends, rtol=1e-4, atol=0)


def test_the_pieces_of_a_step_draw_on_a_gpu_by_seeds_of_their_own():
    device, drawn = torch.device("cuda"), []
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state()
    for draws in Ranks(0, 2).draws(2, device):
        with draws:
            drawn.append(torch.rand(4, device=device).tolist())
    assert drawn[0] != drawn[1]
    assert torch.equal(torch.cuda.get_rng_state(), before)

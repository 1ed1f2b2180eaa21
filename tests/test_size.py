"""A budget on size: the reward's soft target, and deriving's hard limit."""

import runpy

import pytest
import tiny
import torch
from test_own_space import EXAMPLE
from tiny import main

from enas.cnn.cost import macro_cost
from enas.cnn.macro import MacroSpace
from enas.cnn.settings import ScratchCNNConfig
from enas.config import Config
from enas.errors import UserError
from enas.search.controllers import RandomController
from enas.search.cost import Cost, SizeBudget
from enas.search.ranks import apart
from enas.search.settings import SizeConfig

MACRO = {"network_type": "cnn", "cnn_num_layers": 3}


def cost_of(network) -> Cost:
    return macro_cost(network, 3, ScratchCNNConfig(scratch_cnn_hid=4), (16, 16))


def test_the_reward_is_that_of_bender_et_al_and_a_limit_is_kept_exactly():
    torch.manual_seed(0)
    networks = RandomController(MacroSpace(4)).sample(40).architectures
    costs = [cost_of(one) for one in networks]
    budget = SizeBudget(SizeConfig(max_parameters=1000, max_flops=500_000, size_beta=-0.2), cost_of)
    expected = [-0.2 * (abs(c.parameters / 1000 - 1) + abs(2 * c.multiply_adds / 500_000 - 1)) for c in costs]
    assert budget.reward(networks).tolist() == pytest.approx(expected)
    fits = [c.parameters <= 1000 and 2 * c.multiply_adds <= 500_000 for c in costs]
    assert [budget.fits(one) for one in networks] == fits
    unlimited = SizeBudget(SizeConfig(), cost_of)
    assert unlimited.reward(networks) == 0 and all(map(unlimited.fits, networks))
    exact = costs[0].parameters
    for limit in (exact, exact - 1):
        assert SizeBudget(SizeConfig(max_parameters=limit), cost_of).fits(networks[0]) is (limit == exact)


def test_the_controller_learns_the_target(tmp_path):
    """All networks of the same quality: what it learns is the size, that of the smallest tenth."""
    trainer = tiny.trainer(tmp_path, **{**MACRO, "cnn_num_layers": 6}, controller_max_step=1500, controller_lr=0.02,
                           controller_num_aggregate=10, advantage_spread_decay=0.9, baseline="leave_one_out",
                           entropy_coeff=0.0)  # fmt: skip
    uniform = RandomController(trainer.controller.space).sample(300).architectures
    target = sorted(trainer.size.cost(one).flops for one in uniform)[30]
    cost = trainer.size.cost
    trainer.size = SizeBudget(SizeConfig(max_flops=target), cost)
    trainer.task.rewards = lambda some: torch.zeros(len(some))

    def distance(some) -> float:
        return sum(abs(cost(one).flops / target - 1) for one in some) / len(some)

    trainer.train_controller()
    with torch.no_grad():
        learned = trainer.controller.sample(100).architectures
    assert distance(learned) < distance(uniform) / 4


def test_deriving_takes_the_best_that_fits(tmp_path):
    trainer = tiny.trainer(tmp_path, **{**MACRO, "cnn_num_layers": 4}, derive_num_sample=30)
    trainer.train_shared()
    torch.manual_seed(2)
    free = trainer.derive()
    limit = trainer.size.cost(free.architecture).parameters - 1  # the best of all does not fit
    trainer.deriver.size = SizeBudget(SizeConfig(max_parameters=limit), trainer.size.cost)
    derived = trainer.derive()
    with apart():
        sampled = dict.fromkeys(trainer.controller.sample(30).architectures)
    fitting = [one for one in sampled if trainer.size.cost(one).parameters <= limit]
    ranks = trainer.task.rank(fitting, 2)
    assert 1 < len(fitting) < len(sampled)
    assert derived.architecture == fitting[ranks.index(max(ranks))]
    assert derived.comparison["place"] >= free.comparison["place"]


def test_nothing_is_derived_if_nothing_fits_until_the_limit_is_higher(tmp_path, capsys):
    too_small = tiny.run_in(tmp_path, **MACRO, max_parameters=10)
    results = tiny.results(too_small)
    assert results["architecture"] is None and results["validation_accuracy"] is None
    assert [entry["validation_accuracy"] for entry in results["history"]] == [None, None]
    assert results["history"][-1]["place"] is None
    assert not list((too_small / "networks").glob("*"))
    log = (too_small / "train.log").read_text()
    assert "different samples keeps to max_parameters 10; the one with fewest parameters has" in log
    assert "nothing is derived" in log and "enas export" not in log
    for mode in ("derive", "train_scratch"):
        argv = ["--mode", mode, "--load_path", str(too_small)]
        line = tiny.refusal(argv, too_small / "architectures", capsys)
        assert "max_parameters 10" in line and line.endswith("derived; raise the limit, or derive_num_sample\n")
    assert main(["--mode", "derive", "--load_path", str(too_small), "--max_parameters", "1000000"]) == 0
    results = tiny.results(too_small)
    assert 10 < results["parameters"] <= 1_000_000 and results["multiply_adds"] > 0


def test_the_cost_is_in_results_and_log(trained):
    results = tiny.results(trained)
    cost, last = Cost(results["parameters"], results["multiply_adds"]), results["history"][-1]
    assert cost.parameters > 0 and (last["parameters"], last["multiply_adds"]) == (cost.parameters, cost.multiply_adds)
    assert str(cost) in (trained / "train.log").read_text()


def test_a_run_from_scratch_has_the_parameters_it_says(tmp_path):
    for kind in ({}, MACRO):
        folder = tmp_path / str(len(kind))
        architecture = RandomController(tiny.trainer(folder, **kind).controller.space).sample(1).architectures[0]
        trainer = tiny.scratch_trainer(folder, architecture, **kind)
        counted = sum(weight.numel() for weight in trainer.task.model.parameters())
        assert trainer.size.cost(architecture).parameters == counted


def test_a_space_without_a_cost_has_no_limit():
    with tiny.registering():
        runpy.run_path(str(EXAMPLE))
        with pytest.raises(UserError, match="space table registers no cost"):
            Config(network_type="table", max_flops=10)


def test_a_cost_is_said_in_short_numbers():
    assert str(Cost(999, 1000)) == "999 parameters, 1k multiply-adds"
    assert str(Cost(3_727_450, 580_400_000)) == "3.73M parameters, 580M multiply-adds"
    assert str(Cost(1_500_000_000, 0)) == "1.5G parameters, 0 multiply-adds"

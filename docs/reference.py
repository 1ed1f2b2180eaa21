"""REFERENCE.md: every setting, and every number that a run writes, defined in one page.

python -m docs.reference
"""

import sys
from dataclasses import Field
from pathlib import Path
from typing import Any

from enas.parser import settings_by_part
from enas.settings import ABOVE_ZERO, ANY_OF, choices_of

PAGE = Path(__file__).resolve().parent.parent / "REFERENCE.md"
CURVES = {
    "shared/loss": "loss that a step of ω minimises, regularisers included: nats a token or an image",
    "shared/perplexity": "exp of the mean cross-entropy of that minibatch; text",
    "shared/accuracy": "share of the images of that minibatch classified correctly; images",
    "shared/score": "mean score of that minibatch; a module",
    "shared/grad_norm": "Euclidean norm of the gradient of ω, before it is clipped",
    "shared/lr": "learning rate of that step",
    "controller/loss": "loss that an update of θ minimises: −Σ log π · advantage over decisions, mean of samples, with "
    "entropy and skip penalty if they join the loss",
    "controller/reward": "mean reward of the samples of an update, the size budget's part included",
    "controller/entropy": "mean over the samples of the summed entropy of all decisions, in nats",
    "controller/advantage": "mean over samples and decisions of return less baseline, scaled by "
    "advantage_spread_decay; not with baseline leave_one_out, whose mean is 0",
    "controller/baseline": "mean over decisions of the baseline",
    "controller/clipped": "of ppo: share of the ratios that are outside of the clipped range in the last pass",
    "controller/population": "of evolution: mean reward of the population",
    "controller/functions": "of local_search: different functions looked at so far",
    "eval/validation_perplexity": "perplexity on all of validation of the derived cell: exp(total nats / total tokens)",
    "eval/validation_accuracy": "share of all validation images that the derived network classifies correctly",
    "eval/validation_score": "mean score of the derived module over all validation examples",
    "eval/policy_METRIC_mean": "mean of derive_num_sample samples of the policy, on derive_max_batches minibatches",
    "eval/policy_METRIC_std": "the samples' standard deviation, which is not the error of their mean",
    "eval/policy_METRIC_median": "the samples' median, the score nearest to the middle; diverged ones are the worst",
    "eval/policy_METRIC_lower_quartile": "a quarter of the samples' scores lie below it",
    "eval/policy_METRIC_upper_quartile": "a quarter of the samples' scores lie above it",
    "eval/policy_METRIC_best": "the samples' best score",
    "eval/uniform_METRIC_mean": "mean of as many uniform samples of the search space, the same at every evaluation",
    "eval/uniform_METRIC_std": "the uniform samples' standard deviation",
    "eval/uniform_METRIC_median": "the uniform samples' median, counted like the policy's",
    "eval/uniform_METRIC_lower_quartile": "a quarter of the uniform samples' scores lie below it",
    "eval/uniform_METRIC_upper_quartile": "a quarter of the uniform samples' scores lie above it",
    "eval/uniform_METRIC_best": "the uniform samples' best score",
}
RESULTS = {
    "network_type, dataset, train_type, mode": "settings of the run",
    "reward": "of a search: the setting",
    "epoch": "epochs finished",
    "architecture": "the architecture of the run, which every mode takes, as in its JSON file: the one that was "
    "derived last, by mode derive or by the search itself; null if none keeps to the size budget",
    "parameters": "numbers that a run from scratch trains for this architecture, without auxiliary head",
    "multiply_adds": "multiply-adds of its forward pass for one token or image: half the FLOPs of torch's counter",
    "validation_METRIC": "score on all of validation: of that architecture; from scratch, of the best epoch",
    "measured_with": "the weights of that validation: the shared ones of an epoch and step, or those from scratch",
    "finalists": "after mode derive: derive_finalists and derive_rung_epoch, by which it chose",
    "test_METRIC": "score on all of test; null until mode test or the end of train_scratch. Nothing is chosen by it",
    "wall_seconds": "seconds to the end of the last epoch, with evaluation and the time before a resume",
    "best_epoch": "from scratch: the epoch that validated best",
    "num_parameters": "from scratch: trained numbers, auxiliary head included",
    "history": "an entry for each epoch",
}
HISTORY = {
    "epoch": "number of the epoch, from 1",
    "train_METRIC": "mean over the steps of the epoch, dropout on: exp of the mean nats, or share of images",
    "validation_METRIC": "as in results.json, after an evaluation; else null",
    "reward": "mean reward of the samples that updated θ in the epoch",
    "entropy": "entropy of the policy: summed over the decisions of a sample, mean over samples, in nats",
    "wall_seconds": "seconds of the run to the end of the epoch, with its evaluation",
    "cpu_seconds": "seconds of a core that one process took to the end of the epoch",
    "policy, uniform": "at an evaluation: mean, std, median, quartiles, best, as eval/policy_METRIC_mean and so on",
    "compared_by": "measure of policy and uniform: perplexity, accuracy, score, log_likelihood (mean, of labels, in "
    "nats), or the name of a reward function",
    "samples, functions": "derive_num_sample, and how many different functions the samples of the policy are",
    "place": "rank of the derived architecture among the uniform samples, from 1; null if nothing was derived",
    "parameters, multiply_adds": "of the derived architecture, as in results.json",
}


def page() -> str:
    """Return the whole page, Markdown."""
    lines = ["# Reference", "", "Made by `python -m docs.reference` (`make docs`)."]
    lines += ["", "## Settings", "", "Flags of `main.py`, keyword arguments of `Config`, lines of `configs/NAME.py`."]
    for heading, specs in settings_by_part().items():
        lines += [
            "",
            f"### {heading}",
            "",
            "| setting | default | meaning | needs |",
            "|---|---|---|---|",
        ]
        lines += [_setting(name, spec) for name, spec in specs.items()]
    lines += ["", "## Numbers", "", "METRIC is perplexity for text, accuracy for images, score for a module."]
    lines += ["For samples METRIC is the measure that compares them, which may be log_likelihood."]
    lines += ["The steps of `controller/` are updates of θ; those of all other curves are updates of ω."]
    for heading, known in (("TensorBoard", CURVES), ("results.json", RESULTS), ("An entry of its history", HISTORY)):
        lines += ["", f"### {heading}", "", "| name | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {text} |" for name, text in known.items()]
    return "\n".join(lines) + "\n"


def _setting(name: str, spec: Field[Any]) -> str:
    choices = choices_of(spec)
    text = f"{spec.metadata['help']}{': ' if choices else ''}{', '.join(choices)}"
    only = dict(spec.metadata["only"])
    either = " or ".join(f"{other} {_value(value)}" for other, value in only.pop(ANY_OF, {}).items())
    needs = "; ".join([f"{other} {_value(value)}" for other, value in only.items()] + ([either] if either else []))
    return f"| `{name}` | {_value(spec.default)} | {text} | {needs} |".replace("  ", " ")


def _value(value: Any) -> str:
    if value is ABOVE_ZERO or isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> int:
    """Write the page; returns 0."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

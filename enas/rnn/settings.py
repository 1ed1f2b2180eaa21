"""The settings of recurrent search: text, space, shared model, task, optimiser."""

from dataclasses import dataclass
from typing import Any, ClassVar

from enas.errors import UserError
from enas.rnn.cell import ACTIVATIONS, PAPER_ACTIVATIONS, SHAPES
from enas.search import settings as search
from enas.search.architecture import MOST_NODES
from enas.search.settings import WITH_SHARED
from enas.settings import FROM_SCRATCH, SPACE, Settings, setting

DECAY, COSINE = {"shared_lr_cosine": False}, {"shared_lr_cosine": True}
ADAM = {"shared_optim": "adam"}
HARDCODED = {"train_type": "hardcoded"}


@dataclass(frozen=True, kw_only=True)
class SharedOptimConfig(search.LengthConfig, search.SharedOptimisation):
    """Text: the optimiser, SGD or Adam (paper section 3.1; cosine: Loshchilov & Hutter 2017)."""

    max_norm: ClassVar = "shared_grad_clip"
    shared_optim: str = setting("sgd", "optimiser of the shared parameters", choices=("sgd", "adam"))
    shared_lr: float = setting(20.0, "learning rate of the shared parameters", at_least=0)
    shared_decay: float = setting(0.96, "factor on shared_lr per epoch", above=0, only=DECAY)
    shared_decay_after: int = setting(15, "epochs before shared_lr decays", at_least=0, only=DECAY)
    shared_lr_warmup: int = setting(0, "steps over which shared_lr rises from 0", at_least=0)
    shared_lr_cosine: bool = setting(False, "shared_lr follows a cosine over max_epoch instead of decaying")
    shared_lr_min: float = setting(0.0, "last learning rate of the cosine", at_least=0, only=COSINE)
    shared_adam_beta2: float = setting(0.999, "Adam's decay of squared gradients", at_least=0, below=1, only=ADAM)
    shared_l2_reg: float = setting(1e-7, "weight decay of the shared parameters", at_least=0)
    shared_grad_clip: float = setting(0.25, "largest norm of the shared gradient; 0 does not clip", at_least=0)

    @property
    def optimizer(self) -> dict[str, Any]:
        return {"name": self.shared_optim, "betas": (0.9, self.shared_adam_beta2), "weight_decay": self.shared_l2_reg}

    def rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        warmup = min(1.0, (step + 1) / self.shared_lr_warmup) if self.shared_lr_warmup else 1.0
        if self.shared_lr_cosine:
            return warmup * search.cosine(step / (self.max_epoch * steps_per_epoch), self.shared_lr, self.shared_lr_min)
        return warmup * self.shared_lr * self.shared_decay ** max(0, epoch - self.shared_decay_after)


@dataclass(frozen=True, kw_only=True)
class TextConfig(Settings):
    """Reading text."""

    text_unit: str = setting("word", "a token is a word or any character", choices=("word", "character"), kind=SPACE)
    vocab_min_count: int = setting(2, "rarer words become <unk>, unless train.txt has <unk>", at_least=1, kind=SPACE)


@dataclass(frozen=True, kw_only=True)
class RNNSpaceConfig(search.CellOutputConfig):
    """Recurrent cells: the search space (paper section 2.1)."""

    num_blocks: int = setting(12, "nodes of a recurrent cell", at_least=1, at_most=MOST_NODES, kind=SPACE)
    shared_rnn_activations: tuple[str, ...] = setting(PAPER_ACTIVATIONS, "activations, separated by commas", kind=SPACE)
    architecture: str = setting("chain", "shape of a hardcoded cell", choices=tuple(SHAPES), only=HARDCODED, kind=SPACE)

    def check(self) -> None:
        names = self.shared_rnn_activations
        if not names or not set(names) <= set(ACTIVATIONS) or len(set(names)) < len(names):
            rule = f"it must be one or more different names out of {', '.join(ACTIVATIONS)}; --use loads your own"
            raise UserError(f"shared_rnn_activations is {names!r}; {rule}")
        super().check()


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(search.PrecisionConfig):
    """Language models: sizes and dropout."""

    shared_embed: int = setting(1000, "embedding size", at_least=1)
    shared_hid: int = setting(1000, "hidden size", at_least=1)
    tie_weights: bool = setting(True, "decoder and embedding share their weights")
    shared_dropoute: float = setting(0.1, "embedding dropout, of whole words", at_least=0, below=1)
    shared_dropouti: float = setting(0.65, "locked dropout on the input", at_least=0, below=1)
    shared_dropout: float = setting(0.4, "locked dropout on the output", at_least=0, below=1)
    shared_wdrop: float = setting(0.5, "DropConnect on the state's weights of node 0", at_least=0, below=1)
    shared_init_range: float = setting(0.0, "shared weights start uniform in ±this; 0 is 1/√shared_hid", at_least=0)
    shared_plain_start: bool = setting(False, "as enas_lm: no √shared_embed on embeddings, decoder bias starts at 0")

    def check(self) -> None:
        if self.tie_weights and self.shared_embed != self.shared_hid:
            sizes = f"shared_embed is {self.shared_embed} and shared_hid {self.shared_hid}"
            raise UserError(f"tie_weights needs equal sizes, but {sizes}; make them equal, or set tie_weights to false")
        super().check()


@dataclass(frozen=True, kw_only=True)
class SharedRNNConfig(LanguageModelConfig, RNNSpaceConfig):
    """Recurrent cells: the shared model."""

    shared_dropouth: float = setting(0.0, "locked dropout of the state at node 0 and every edge", at_least=0, below=1)
    shared_batch_norm: bool = setting(True, "normalise the shared model's output by batch statistics", only=WITH_SHARED)
    shared_norm_bound: float = setting(25.0, "largest norm of a hidden state", above=0)


@dataclass(frozen=True, kw_only=True)
class LanguageTaskConfig(search.BatchConfig):
    """Text: batches, regularisers and reward.

    AR and TAR (Merity et al. 2017, section 4.6) are mean squares of the dropped-out output and of the difference of
    successive states. The norm stabiliser (Krueger & Memisevic 2016) has a fixed point instead of the previous norm.
    """

    shared_rnn_max_length: int = setting(35, "tokens of truncated back-propagation", at_least=1, at_most=2**20)
    shared_activation_reg: float = setting(0.0, "coefficient of the squared outputs (AR)", at_least=0)
    shared_temporal_activation_reg: float = setting(0.0, "coefficient of the squared state changes (TAR)", at_least=0)
    shared_norm_stabilizer: float = setting(0.0, "coefficient of (norm of a state − a constant)²", at_least=0)
    reward_c: float = setting(80.0, "reward is this / validation perplexity", above=0, only=search.RANKING)
    ppl_square: bool = setting(False, "reward is reward_c / validation perplexity squared", only=search.RANKING)
    scratch_random_length: bool = setting(True, "from scratch: random lengths of back-propagation", only=FROM_SCRATCH)

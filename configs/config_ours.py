"""Every setting with its default, and why it is that. `--NAME VALUE` changes one; see --help for what each means.

"Paper" is Pham et al. 2018 (arXiv:1802.03268), "AWD" Merity et al. 2017 (arXiv:1708.02182). The defaults for text are a
mixture: the paper's search and optimisers, with the dropout and averaging of AWD.
Other files in this folder are differences from this one; start from one of them with --config NAME.
"""

network_type = "rnn"  # recurrent cells
dataset = "ptb"  # the paper's text
train_type = "orig"  # the paper's controller; "random" is the control it has to beat
architecture = "chain"  # the first of the two; only train_type hardcoded reads it
mode = "train"  # what comes first
load_path = ""  # a new run
dag_path = ""  # mode single needs one
compare_with = ()
log_dir = "logs"  # ignored by git
name = ""  # dataset, train type and time tell runs apart
data_dir = "data"  # where `enas download` puts datasets
random_seed = 12345  # any, as long as it is written down
use = ()  # the search spaces, operations and activations that come with the package
num_gpu = -1  # a GPU when there is one, so that the same command runs everywhere
rank_timeout = 600.0  # longer than one process may ever write, evaluate or draw while the others wait
num_threads = 0  # some small steps gain nothing from a second thread, and it slows other runs down
precision = "auto"  # bfloat16 is faster where the machine has it, and ten times slower where it is emulated

# The search space (paper section 2.1)
num_blocks = 12  # paper section 3.1
shared_rnn_activations = ("tanh", "ReLU", "identity", "sigmoid")  # paper section 2.1
cell_output = "loose_ends"  # paper section 2.1; "all" is later authors' choice

# Batches
batch_size = 64  # evaluation uses it too, for batch statistics like those of training
text_unit = "word"  # paper section 3.1
vocab_min_count = 2  # a word seen once cannot be learned, but <unk> can

# The shared model
shared_embed = 1000  # the same, so that it can be the decoder
shared_hid = 1000  # the size at which ENAS-pytorch searches; the paper gives none
tie_weights = True  # paper section 3.1, after Inan et al. 2017: one large matrix less to learn
shared_dropoute = 0.1  # AWD
shared_dropouti = 0.65  # AWD, for 1000 units; far too much for small models
shared_dropout = 0.4  # AWD
shared_dropouth = 0.0  # off: AWD has DropConnect; enas_lm drops states instead, see ptb.py
shared_wdrop = 0.5  # AWD
shared_batch_norm = True  # cells differ in scale, and all of them share the decoder
shared_norm_bound = 25.0  # identity and ReLU can make a state grow without end
shared_activation_reg = 0.0  # off: it hides how architectures differ; AWD uses 2
shared_temporal_activation_reg = 0.0  # off: it hides how architectures differ; AWD uses 1
shared_norm_stabilizer = 0.0  # off: shared_norm_bound does this
shared_init_range = 0.0  # 1/√shared_hid keeps the scale of activations at every size
# The cell must not start on tiny inputs (Vaswani et al. 2017, section 3.4), nor spend its first steps on learning how
# frequent words are.
shared_plain_start = False

# Training the shared model (paper section 3.1)
shared_rnn_max_length = 35  # the field's habit on Penn Treebank since Zaremba et al. 2014
shared_max_step = 0  # 400 steps of 64 × 35 tokens, about a pass over Penn Treebank; images: a pass (the authors' code)
shared_num_sample = 1  # paper section 2.2: one architecture a step works
uniform_over = "functions"  # orders of a cell's nodes are one function; the paper does not say
shared_optim = "sgd"  # paper section 3.1
shared_lr = 20.0  # paper section 3.1; it needs shared_grad_clip
shared_decay = 0.96  # paper section 3.1
shared_decay_after = 15  # paper section 3.1
shared_lr_warmup = 0  # SGD with clipping needs none; Adam does
shared_lr_cosine = False  # the paper decays by epoch
shared_lr_min = 0.0  # only the cosine schedule reads it
shared_adam_beta2 = 0.999  # Kingma & Ba 2015
shared_l2_reg = 1e-7  # paper section 3.1
shared_grad_clip = 0.25  # paper section 3.1

# Training one architecture from scratch (modes single and train_scratch); settings of the shared model apply too,
# but for batch normalisation, which is left out
scratch_random_length = True  # AWD section 4.1: words stand at other places of other minibatches in each pass
scratch_asgd_patience = 5  # AWD section 3: its non-monotone interval
scratch_early_stop = 30  # an average of weights improves for long after single epochs have ceased to

# Images (paper section 3.2; network_type cnn)
cnn_space = "macro"  # the paper's section 2.3, before the cells of its 2.4
cnn_num_layers = 0  # 12 and 6: the paper's
cnn_operations = ()  # all of the search space: six in section 2.3, five in section 2.4
cnn_num_blocks = 5  # the paper's B is 7, its two inputs among them
cnn_hid = 0  # 36 and 20: the authors' code
cnn_dropout = 0.1  # the authors' code, while searching
cnn_lr_max = 0.05  # paper section 3.2
cnn_lr_min = 0.001  # paper section 3.2
cnn_lr_period = 10  # paper section 3.2; the factor 2 between periods too
cnn_l2_reg = 1e-4  # paper section 3.2
cnn_grad_clip = 5.0  # the authors' code
cnn_crop_padding = 4  # paper section 3.2
cnn_flip = True  # paper section 3.2
cnn_cutout = 0  # off while searching; the paper reports its cells with and without it
cnn_skip_target = 0.4  # paper section 3.2
cnn_skip_weight = 0.8  # paper section 3.2
cnn_reward = "accuracy"  # paper section 3.2
reward = ""  # the scores themselves, as in the paper
image_size = 0  # images come in one size as a rule
valid_size = 5000  # paper section 3.2
scratch_cnn_hid = 0  # 96 and 36: the authors' code
scratch_cnn_num_layers = 15  # the authors' code
scratch_cnn_dropout = -1.0  # 0.5 and 0.2: the authors' code
scratch_cnn_drop_path = 0.4  # the authors' code; it rises to this with depth, and with training
scratch_cnn_auxiliary_weight = 0.4  # the authors' code

# The controller (paper section 3.1)
controller_type = "lstm"  # paper section 2.1
shared_uniform = 0.0
controller_start = 0.0  # the paper trains it from the first epoch
controller_hid = 100  # paper section 3.1
softmax_temperature = 5.0  # paper section 3.1: flat distributions explore
tanh_c = 2.5  # paper section 3.1: no choice becomes certain
controller_max_step = 2000  # paper section 3.1
controller_num_aggregate = 1  # one architecture an update; 10 are scored in one pass
controller_optim = "adam"  # paper section 3.1
controller_lr = 3.5e-4  # paper section 3.1
controller_adam_beta1 = 0.9  # Kingma & Ba 2015; the authors' code has 0
controller_adam_eps = 1e-8  # Kingma & Ba 2015; the authors' code has 1e-3
controller_lr_cosine = False  # the recurrent search keeps it constant
controller_lr_max = 0.05  # SGDR, as the paper's image search has it
controller_lr_min = 0.001  # SGDR, as the paper's image search has it
controller_grad_clip = 0.0  # the paper does not clip it
reward_c = 80.0  # keeps rewards near 1
reward_batch_size = 0  # that of training
ppl_square = False  # Zoph & Le 2017 square it; the paper does not
entropy_coeff = 1e-4  # paper section 3.1
entropy_mode = "reward"  # paper section 3.1
baseline = "ema"  # paper section 2.2
advantage_spread_decay = 0.0  # the paper does not scale them
ema_baseline_decay = 0.95  # remembers about twenty updates, of controller_num_aggregate architectures each
discount = 1.0  # the reward is for the whole architecture

# The run
max_epoch = 150  # paper section 3.1
stop_epoch = 0  # to the end
save_epoch = 4  # deriving takes time too
max_save_num = 4  # one damaged file must not end a run
wandb = False  # nothing leaves the machine unless asked
log_step = 50  # eight points an epoch
derive_num_sample = 100  # enough to find a good one, few enough to score
derive_max_batches = 4  # enough to rank; the winner is then read on all of validation
derive_labellings = 2  # each has its own shared weights; more take long
derive_uniform = False
derive_shortlist = 1  # paper section 2.2
derive_finalists = 0  # paper section 2.2
derive_rung_epoch = 9  # rungs of 1, 3 and 9 epochs; read only with finalists
max_parameters = 0  # the paper has no limit
max_flops = 0
size_beta = -0.1  # Bender et al. 2020; read only with a limit

"""One recurrent cell of 6 nodes from scratch on Penn Treebank, in minutes of a core: a budget."""

dataset = "ptb"
num_blocks = 6
shared_embed = 200
shared_hid = 200
shared_dropoute = 0.0  # as in the search, `ptb_small`
shared_dropouti = 0.2
shared_dropout = 0.2
shared_wdrop = 0.0
shared_max_step = 89
shared_optim = "adam"
shared_lr = 0.003
shared_lr_warmup = 30
shared_lr_cosine = True
shared_lr_min = 0.0001
shared_adam_beta2 = 0.98
shared_grad_clip = 1.0
max_epoch = 9  # three rungs of successive halving: 1, 3, 9
precision = "float32"  # the same on every processor
num_threads = 1

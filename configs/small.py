"""A search on a small text of your own, in minutes on 2 cores: what `enas.search` starts from by default."""

num_blocks = 6
shared_embed = 128
shared_hid = 128
shared_dropoute = 0.0
shared_dropouti = 0.4  # a small text is learned by heart within a few passes
shared_dropout = 0.4
shared_wdrop = 0.0
shared_batch_norm = False  # if all lines have one length, it would remove the place in the line
batch_size = 16  # rows of a small text are short
shared_max_step = 100
shared_optim = "adam"
shared_lr = 0.005
shared_lr_warmup = 50
shared_lr_cosine = True
shared_grad_clip = 1.0
controller_start = 0.25  # first a model whose ranking means something
controller_max_step = 130
controller_num_aggregate = 10
baseline = "leave_one_out"  # with a moving average, a hard minibatch hides which cells of an update are better
advantage_spread_decay = 0.9  # so that the learning rate does not depend on the scale of rewards
controller_lr = 0.01  # few updates
entropy_mode = "regularizer"
entropy_coeff = 0.01
max_epoch = 8
save_epoch = 2
derive_num_sample = 50

"""A search in a few minutes on 2 cores, on text that ships with Python: what `make search` runs."""

dataset = "pydoc"  # needs no download
num_blocks = 6
shared_embed = 128
shared_hid = 128
shared_dropoute = 0.0
shared_dropouti = 0.4  # the text is small, and learned by heart within a few passes
shared_dropout = 0.4
shared_wdrop = 0.0
batch_size = 16  # the text is small: 64 rows of it would be 16 minibatches
shared_max_step = 100  # a pass takes 64
shared_optim = "adam"
shared_lr = 0.003
shared_lr_warmup = 50
shared_lr_cosine = True
shared_grad_clip = 1.0
controller_start = 0.25  # first a model whose ranking means something
controller_max_step = 130
controller_num_aggregate = 10
baseline = "leave_one_out"  # the moving average drowns the ranking of an update in how hard its minibatch is
advantage_spread_decay = 0.9  # so that the learning rate does not depend on the scale of rewards
controller_lr = 0.01  # few updates
entropy_mode = "regularizer"
entropy_coeff = 0.01
max_epoch = 8
save_epoch = 2
derive_num_sample = 50

"""One recurrent cell of 3 nodes from scratch on pydoc, in 17 seconds of a core: the budget of `tables/cells3.json`."""

dataset = "pydoc"
num_blocks = 3
shared_embed = 64
shared_hid = 64
shared_dropoute = 0.0
shared_dropouti = 0.4  # the text is small, and learned by heart within a few passes
shared_dropout = 0.4
shared_wdrop = 0.0
batch_size = 32
shared_max_step = 200
shared_optim = "adam"
shared_lr = 0.01
shared_lr_cosine = True  # the end of a schedule tells cells apart; a constant rate leaves twice the noise
shared_lr_min = 0.0005
max_epoch = 3
precision = "float32"  # the same on every processor
num_threads = 1

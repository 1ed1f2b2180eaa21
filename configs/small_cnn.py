"""A search on small images of your own, in minutes on 2 cores: what `enas.search` starts from by default.

`--image_size 32` brings photographs to a size that 2 cores can train on.
"""

network_type = "cnn"
batch_size = 32  # many steps matter more than many images
cnn_num_layers = 6  # two before, between and after the reductions; a multiple of 3, as micro networks need
cnn_hid = 16
cnn_dropout = 0.0  # the shared weights are far from learning the images by heart
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 6  # max_epoch, so that the only cosine ends with the run
shared_max_step = 300
controller_start = 0.3  # two epochs: first a model whose ranking means something
controller_max_step = 100
controller_num_aggregate = 10
cnn_reward = "log_likelihood"  # the same images rank networks far better by it than by counting hits
reward_batch_size = 128
baseline = "leave_one_out"  # with a moving average, a hard minibatch hides which networks of an update are better
advantage_spread_decay = 0.9  # so that the learning rate does not depend on the scale of rewards
controller_lr = 0.01  # few updates
entropy_mode = "regularizer"
entropy_coeff = 0.01
max_epoch = 6
save_epoch = 2
derive_num_sample = 30
derive_max_batches = 2
derive_shortlist = 3
scratch_cnn_hid = 16
scratch_cnn_dropout = 0.0  # short training, small network

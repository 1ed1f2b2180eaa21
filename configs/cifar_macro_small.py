"""CIFAR-10 at 16 × 16 pixels on 2 cores: the macro space, small."""

network_type = "cnn"
dataset = "cifar"
cnn_space = "macro"
image_size = 16  # a quarter of the work of a step
cnn_num_layers = 6  # two before, between and after the reductions
cnn_hid = 24
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 6  # one cosine, which ends with the run
shared_max_step = 410  # the controller takes the rest of the time
controller_start = 0.3  # two epochs: first a model whose ranking means something
controller_max_step = 240
controller_num_aggregate = 10
cnn_reward = "log_likelihood"  # the same images rank networks far better by it than by counting hits
reward_batch_size = 100  # more updates on fewer images move the policy further in the same time
baseline = "leave_one_out"  # with a moving average, a hard minibatch hides which networks of an update are better
advantage_spread_decay = 0.9  # so that the learning rate does not depend on the scale of rewards
controller_lr = 0.02  # 24 updates an epoch leave no time for 0.00035
entropy_mode = "regularizer"
entropy_coeff = 0.01
max_epoch = 6
save_epoch = 2
derive_num_sample = 20
derive_max_batches = 4  # of 100 images each
derive_shortlist = 3
scratch_cnn_hid = 24
scratch_cnn_dropout = 0.1  # short training, small network

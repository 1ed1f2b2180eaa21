"""CIFAR-10 at 16 × 16 pixels on 2 cores: the macro space, small."""

network_type = "cnn"
dataset = "cifar"
cnn_space = "macro"
image_size = 16  # a quarter of the work of a step
cnn_num_layers = 6  # two before, between and after the reductions
cnn_hid = 24
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 6  # one cosine, which ends with the run
shared_max_step = 500
controller_max_step = 100
controller_num_aggregate = 10
controller_lr = 0.003  # ten updates an epoch leave no time for 0.00035
max_epoch = 6
save_epoch = 1
derive_num_sample = 20
scratch_cnn_hid = 24
scratch_cnn_dropout = 0.1  # short training, small network

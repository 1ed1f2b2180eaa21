"""CIFAR-10 at 16 × 16 pixels on 2 cores: the micro space, small."""

network_type = "cnn"
dataset = "cifar"
cnn_space = "micro"
image_size = 16  # a quarter of the work of a step
cnn_num_layers = 3  # one normal cell before, between and after the reduction cells
cnn_num_blocks = 3
cnn_hid = 12
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 6  # one cosine, which ends with the run
shared_max_step = 250  # separable convolutions are slow on a CPU
controller_max_step = 100
controller_num_aggregate = 10
controller_lr = 0.003  # ten updates an epoch leave no time for 0.00035
max_epoch = 6
save_epoch = 1
derive_num_sample = 20
scratch_cnn_hid = 12
scratch_cnn_num_layers = 3  # as searched
scratch_cnn_dropout = 0.1  # short training, small network
scratch_cnn_drop_path = 0.0  # likewise

"""One pair of micro cells of 3 nodes from scratch on CIFAR-10 at 16 × 16 pixels, in minutes of a core: a budget."""

network_type = "cnn"
dataset = "cifar"
cnn_space = "micro"
image_size = 16  # as in the search, `cifar_micro_small`
cnn_num_blocks = 3
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 4  # one cosine, which ends with the training
shared_max_step = 500
max_epoch = 4
scratch_cnn_hid = 12
scratch_cnn_num_layers = 3
scratch_cnn_dropout = 0.1  # short training, small network
scratch_cnn_drop_path = 0.0  # likewise
precision = "float32"  # the same on every processor
num_threads = 1

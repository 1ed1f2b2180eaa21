"""CIFAR-10 at 16 × 16 pixels on 2 cores: the micro space, small."""

config = "cifar_macro_small"
cnn_space = "micro"
cnn_num_layers = 3  # one normal cell before, between and after the reduction cells
cnn_num_blocks = 3
cnn_hid = 12
shared_max_step = 170  # separable convolutions are slow on a CPU, and the controller takes its time too
scratch_cnn_hid = 12
scratch_cnn_num_layers = 3  # as searched
scratch_cnn_drop_path = 0.0  # short training, small network

"""One macro network of 6 layers from scratch on CIFAR-10 at 16 × 16 pixels, in two minutes of a core: a budget."""

network_type = "cnn"
dataset = "cifar"
cnn_space = "macro"
image_size = 16  # as in the search, `cifar_macro_small`
cnn_num_layers = 6
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 4  # one cosine, which ends with the training
shared_max_step = 500
max_epoch = 4
scratch_cnn_hid = 24
scratch_cnn_dropout = 0.1  # short training, small network
precision = "float32"  # the same on every processor
num_threads = 1

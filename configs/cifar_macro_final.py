"""One macro network from scratch on CIFAR-10, as scripts/cifar10_macro_final.sh of melodyguan/enas; for a GPU.

For modes single and train_scratch.
"""

network_type = "cnn"
dataset = "cifar"
cnn_space = "macro"
valid_size = 0  # all 50,000 images; the authors test after each epoch, here the last one is tested, once
batch_size = 100
scratch_cnn_hid = 96  # doubled at each reduction
scratch_cnn_dropout = 0.5
cnn_l2_reg = 4e-4  # 2e-4 · Σw² there
max_epoch = 310  # the end of a period

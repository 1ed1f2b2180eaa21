"""One pair of cells from scratch on CIFAR-10, as scripts/cifar10_micro_final.sh of melodyguan/enas; for a GPU.

For modes single and train_scratch. The authors have two versions of that script. This is the one without cutout, for
which the paper reports a test error of 3.54 %; add --cnn_cutout 16 for the other, with 2.89 %.
"""

network_type = "cnn"
dataset = "cifar"
cnn_space = "micro"
valid_size = 0  # all 50,000 images; the authors test after each epoch, here the last one is tested, once
batch_size = 144
scratch_cnn_hid = 36
scratch_cnn_num_layers = 15
scratch_cnn_dropout = 0.2
scratch_cnn_drop_path = 0.4
scratch_cnn_auxiliary_weight = 0.4
cnn_lr_min = 0.0001
cnn_l2_reg = 4e-4  # 2e-4 · Σw² there
max_epoch = 630  # the end of a period

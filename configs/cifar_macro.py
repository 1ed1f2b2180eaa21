"""The paper's search of whole networks on CIFAR-10 (sections 2.3 and 3.2). For a GPU.

"Authors" is scripts/cifar10_macro_search.sh of melodyguan/enas.
"""

network_type = "cnn"
dataset = "cifar"
cnn_space = "macro"
batch_size = 128  # authors; the reward is measured on as many images
cnn_num_layers = 12  # paper section 3.2
cnn_hid = 36  # authors
cnn_l2_reg = 5e-4  # authors: 2.5e-4 · Σw², whose gradient is 5e-4 · w; the paper says 1e-4
controller_hid = 64  # authors
controller_lr = 0.001  # authors; the paper's 3.5e-4 goes with 2,000 updates an epoch
controller_max_step = 1000  # authors: 50 updates of 20 networks
controller_num_aggregate = 20
controller_adam_beta1 = 0.0  # authors
controller_adam_eps = 1e-3  # authors
ema_baseline_decay = 0.99  # authors
max_epoch = 310  # authors; periods of 10, 20, 40, 80 and 160 epochs

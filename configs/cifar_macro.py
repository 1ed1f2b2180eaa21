"""A search of whole networks on CIFAR-10 at the paper's size (sections 2.3 and 3.2). For a GPU.

This is a mixture. "Authors" is scripts/cifar10_macro_search.sh of melodyguan/enas; the learning rates of the shared
weights, and the controller's temperature 5 and tanh_c 2.5, are the paper's (the authors have 0.05 … 0.0005, no
temperature and 1.5).
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
# The authors' 1e-3 goes with logits of slope 1.5. Here the slope is tanh_c / temperature = 0.5 and gradients are a
# third as long, so ε is a third too. TensorFlow adds ε before the bias correction: the authors' ε begins at
# 1e-3 / √(1 − β₂) = 0.03, which acts as a warm-up, and is within 5 % of 1e-3 after 2,375 of 15,500 updates.
controller_adam_eps = 3.3e-4
ema_baseline_decay = 0.818  # authors: 0.99 a network; 0.99^20 an update
max_epoch = 310  # authors; periods of 10, 20, 40, 80 and 160 epochs

"""A search of cells on CIFAR-10 at the paper's size (sections 2.4 and 3.2). For a GPU.

This is a mixture. "Authors" is scripts/cifar10_micro_search.sh of melodyguan/enas; the learning rates of the shared
weights, and the controller's temperature 5 and tanh_c 2.5, are the paper's. The authors' preference for separable
convolutions is not available. Their logits are bounded by 1.1 for inputs, and by 0.44 for operations.
"""

network_type = "cnn"
dataset = "cifar"
cnn_space = "micro"
batch_size = 160  # authors; the reward is measured on as many images
cnn_num_layers = 6  # authors
cnn_num_blocks = 5  # paper section 3.2: 7 with the two inputs
cnn_hid = 20  # authors
cnn_l2_reg = 2e-4  # authors: 1e-4 · Σw², whose gradient is 2e-4 · w
controller_hid = 64  # authors
controller_lr = 0.0035  # authors
controller_max_step = 300  # authors: 30 updates of 10 networks
controller_num_aggregate = 10
controller_adam_beta1 = 0.0  # authors
# The authors' 1e-3 goes with operations' logits of slope 0.44. Here the slope is tanh_c / temperature = 0.5 and
# gradients are longer in proportion, so ε is larger too. TensorFlow adds ε before the bias correction: the authors' ε
# begins at 1e-3 / √(1 − β₂) = 0.03, which acts as a warm-up, and is within 5 % of 1e-3 after 2,375 of 4,500 updates.
controller_adam_eps = 1.1e-3
ema_baseline_decay = 0.904  # authors: 0.99 a network; 0.99^10 an update
max_epoch = 150  # authors; periods of 10, 20, 40 and 80 epochs

"""The paper's search of cells on CIFAR-10 (sections 2.4 and 3.2). For a GPU.

"Authors" is scripts/cifar10_micro_search.sh of melodyguan/enas. Its preference for separable convolutions is left out:
--cnn_separable_start 10 --cnn_separable_prior 0.25 --cnn_operation_tanh_c 0.44 --tanh_c 1.1 --softmax_temperature 1.
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
controller_adam_eps = 1e-3  # authors
ema_baseline_decay = 0.99  # authors
max_epoch = 150  # authors; periods of 10, 20, 40 and 80 epochs

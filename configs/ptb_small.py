"""Penn Treebank on 2 cores: real learning in five epochs."""

dataset = "ptb"
num_blocks = 6
shared_embed = 200
shared_hid = 200
shared_dropoute = 0.0  # five epochs and 200 units: little dropout, most of all none that drops words or weights
shared_dropouti = 0.2
shared_dropout = 0.2
shared_wdrop = 0.0
shared_optim = "adam"  # at this budget SGD at lr 20 is far behind
shared_lr = 0.003
shared_lr_warmup = 30
shared_lr_cosine = True  # down to almost nothing at max_epoch, which is worth much in a short run
shared_lr_min = 0.0001
shared_adam_beta2 = 0.98  # 2,000 steps in all: an average over 1,000 would remember the start too long
shared_grad_clip = 1.0
controller_max_step = 200
controller_num_aggregate = 10
controller_lr = 0.003  # 20 updates an epoch, each of ten architectures, leave no time for 0.00035
max_epoch = 5
save_epoch = 1
derive_max_batches = 2

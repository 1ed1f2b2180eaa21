"""A search over the parts of a module of your own, in minutes: what `enas.search_module` starts from by default."""

network_type = "module"
shared_optim = "adam"
shared_lr = 0.003
shared_lr_warmup = 20
shared_lr_cosine = True
shared_grad_clip = 1.0
shared_l2_reg = 0.0
controller_type = "independent"  # few decisions: an LSTM has little to relate
controller_start = 0.4  # first weights whose ranking means something
controller_max_step = 100
controller_num_aggregate = 10
baseline = "leave_one_out"  # with a moving average, a hard minibatch hides which networks of an update are better
advantage_spread_decay = 0.9  # so that the learning rate does not depend on the scale of scores
controller_lr = 0.05  # few updates of a few logits
entropy_mode = "regularizer"
entropy_coeff = 0.01
max_epoch = 10
save_epoch = 2
derive_num_sample = 50
derive_shortlist = 3

"""One cell from scratch on Penn Treebank, as enas_lm (google-research) trains it; for modes single and train_scratch.

The authors say of the settings of their first code, melodyguan/enas, that they are wrong. The values are those of
enas_lm's src/fixed_lib.py. Three differences are left: the decoder has a bias, which starts at 0; an epoch is 400
minibatches, and the next one goes on where it stopped reading; the test split is read in columns, which
docs/from_scratch.md describes.
We have not yet trained a cell at this size; enas_lm reports a test perplexity of 57.3 ± 0.1 for its own.
"""

dataset = "ptb"
shared_embed = 800  # 24.7 million parameters with a cell of 12 nodes; the paper's have 24
shared_hid = 800
shared_init_range = 0.05  # of the embeddings too, by default
shared_plain_start = True
shared_norm_bound = 1e9  # none: a state never becomes as long
shared_dropoute = 0.125
shared_dropouti = 0.773  # 0.175 of the embedding, then 0.725 of the cell's input, in one mask
shared_dropouth = 0.225
shared_dropout = 0.75
shared_wdrop = 0.0
shared_activation_reg = 0.175  # 0.7 of the states; here it is of the dropped-out output, whose squares are 4 times that
shared_lr = 20.0
shared_decay = 1.0  # constant, until the weights are averaged
shared_l2_reg = 1.6e-6  # 8e-7 · Σw² there, whose gradient is twice 8e-7 · w
shared_grad_clip = 0.25
scratch_random_length = True
scratch_asgd_patience = 10
scratch_early_stop = 0  # the average goes on improving
max_epoch = 3000

"""A search on Penn Treebank at the paper's size: 12 nodes (section 3.1), 1000 units. On a CPU a step takes seconds.

This is a mixture, which nobody has published. SGD, its schedule, the gradient clip and the 150 epochs are the paper's;
the rates of dropout are those of "enas_lm", the authors' corrected language model (google-research's folder of that
name), which goes with another recipe: 200 units, a constant rate, a clip of 0.1, 600 epochs. The size is
ENAS-pytorch's, and so is the baseline's decay, 0.95 an update; enas_lm has 0.999 a cell, which is 0.99 an update of
ten. "enas" is the authors' first code, melodyguan/enas.
"""

dataset = "ptb"
num_blocks = 12  # paper section 3.1
shared_embed = 1000  # enas has 720 and enas_lm 200; this is the size at which ENAS-pytorch searches
shared_hid = 1000  # likewise
shared_dropoute = 0.1  # enas_lm
shared_dropouti = 0.8  # enas_lm: 0.2 of the embedding, then 0.75 of the cell's input, in one mask: 1 − 0.8 · 0.25
shared_dropouth = 0.25  # enas_lm and enas
shared_dropout = 0.75  # enas_lm and enas
shared_wdrop = 0.0  # enas_lm; the states are dropped in its place
controller_num_aggregate = 10  # enas_lm and enas; 200 updates an epoch, their cells scored ten at a time

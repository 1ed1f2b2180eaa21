"""The paper's search on Penn Treebank: 1000 units, 12 nodes (section 3.1). On a CPU a step takes seconds.

Where the paper gives no number, the authors' corrected language model has one: "enas_lm" is google-research's folder
of that name, "enas" their first code, melodyguan/enas.
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

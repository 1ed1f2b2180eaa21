"""The paper's search on Penn Treebank: 1000/1000 units, 12 nodes (section 3.1). On a CPU a step takes seconds."""

dataset = "ptb"
shared_embed = 1000
shared_hid = 1000
num_blocks = 12
controller_num_aggregate = 10  # 200 updates an epoch in place of 2,000, their cells scored ten at a time

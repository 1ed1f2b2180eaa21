"""The paper's search on Penn Treebank: 1000/1000 units, 12 nodes (section 3.1). For a GPU and a day."""

dataset = "ptb"
shared_embed = 1000
shared_hid = 1000
num_blocks = 12
controller_num_aggregate = 10  # 200 updates an epoch in place of 2000 noisy ones, in a fraction of the time

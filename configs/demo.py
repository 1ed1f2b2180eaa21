"""A search in a few minutes on 2 cores, on text that ships with Python: what `make search` runs."""

config = "small"
dataset = "pydoc"  # needs no download
shared_batch_norm = True
shared_lr = 0.003

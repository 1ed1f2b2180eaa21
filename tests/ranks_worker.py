"""Several runs, one after the other, in each of the processes that `torchrun` begins: see test_distributed.

The runs are the arguments: a JSON object of settings for each.
"""

import atexit
import json
import sys

import torch.distributed as dist

from enas.config import Config
from enas.runs import run
from enas.search_space import architecture_from_dict

atexit.register(lambda: print(f"group at the end: {dist.is_initialized()}"))
for text in sys.argv[1:]:
    settings = json.loads(text)
    load_path, architecture = settings.pop("load_path", None), settings.pop("given", None)
    if load_path:
        run.resume(load_path, **settings)
    elif architecture:
        run.single(Config(**settings), architecture_from_dict(architecture))
    else:
        run.train(Config(**settings))

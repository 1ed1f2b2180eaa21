"""Writing an export: whole, or not at all."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from enas.config import Config
from enas.errors import UserError
from enas.export.onnx_file import check_installed, write_onnx
from enas.files import atomic_folder, write_json
from enas.runs import run
from enas.runs.final import Final
from enas.runs.folder import find_run, saved_config
from enas.settings import SCRATCH, place

HUGGING_FACE = "modeling_enas"
ROW = f"\n| `{HUGGING_FACE}.py` | for `transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)` |"
ONNX_ROW = "\n| `model.onnx` | the same for other runtimes; of a recurrent cell, one step |"
CARD = """---
library_name: pytorch
tags: [neural-architecture-search, enas]
---

# {exported.title}

{exported.summary}

It was found by Efficient Neural Architecture Search (Pham et al. 2018) on {dataset}, and has the weights of the
{origin}{score}.

| file | |
|---|---|
| `model.py` | the module, readable, and in need of torch alone; Pillow reads pictures |{own}
| `model.safetensors` | its weights |
| `config.json` | the arguments of the module, and where it comes from |
| `architecture.json` | the architecture as data |{extra}

```python
import torch
{exported.usage}
```

![the architecture](architecture.png)
"""


def export(
    load_path: str | Path,
    output: str | Path,
    *,
    dag_path: str | Path = "",
    onnx: bool = False,
    data_dir: str | Path = "",
    log_dir: str | Path = "logs",
) -> Path:
    """Write the architecture of a run into a new folder, with the shared weights of a search, or those from scratch.

    Args:
        load_path: a search or a run from scratch; if empty, the newest run in log_dir.
        output: the folder, which is returned; it must not exist, or be empty.
        dag_path: another architecture of the search space, with the shared weights of the search.
        onnx: write model.onnx too; of a recurrent cell it computes one step.
        data_dir: folder of the run's data; if empty, the folder that the run read.
        log_dir: where run folders lie.
    """
    output = Path(place(output, "output"))
    if onnx:
        check_installed()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists already; name a new folder")
    folder = find_run({"load_path": load_path, "log_dir": log_dir})
    config = saved_config(folder)
    is_scratch, space = config.mode in SCRATCH, config.space
    if not space.by_command:
        raise UserError(f"{folder}: a module given in Python has no export; save run.module() by torch.save")
    exported, final, progress = run.exported(folder, dag_path, **({"data_dir": str(data_dir)} if data_dir else {}))
    own = "".join(f"\n| `{name}` | definitions that `model.py` reads |" for name in exported.files)
    source = exported.source.read_text(encoding="utf-8")
    has_build = "\nbuild = " in source or "\ndef build(" in source  # which modeling_enas.py reads
    origin, score = "training from scratch" if is_scratch else "search", _score(config, final, progress)
    extra = ROW * has_build + ONNX_ROW * onnx
    texts = {"dataset": _literal(config.dataset), "score": _literal(score)}
    card = CARD.format(exported=exported, origin=origin, own=own, extra=extra, **texts)
    with atomic_folder(output) as made:
        for name, text in {**exported.files, "model.py": source, "README.md": card}.items():
            (made / name).write_text(text, encoding="utf-8")
        if onnx:
            write_onnx(exported, made / "model.onnx")
        (made / "model.safetensors").write_bytes(save(exported.weights, metadata={"format": "pt"}))
        write_json(made / "architecture.json", final.architecture.to_dict())
        facts: dict[str, Any] = {name: getattr(config, name) for name in ("dataset", "train_type", "mode")}
        facts |= {"model_type": "enas", "torch": torch.__version__}
        if has_build:
            shutil.copyfile(Path(__file__).parent / "copied" / f"{HUGGING_FACE}.py", made / f"{HUGGING_FACE}.py")
            facts["auto_map"] = {f"Auto{name}": f"{HUGGING_FACE}.{name}" for name in ("Config", "Model")}
        write_json(made / "config.json", {**facts, **exported.settings})
        for suffix in (".png", ".svg"):
            space.problem().draw(final.architecture, made / f"architecture{suffix}", config.dataset)
    return output


def _literal(text: str) -> str:
    """Return Markdown that shows `text` as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>&|!#~])", r"\\\1", " ".join(text.split()))


def _score(config: Config, final: Final, progress: dict[str, Any]) -> str:
    if final.score is None:
        return ""
    metric = config.space.metric
    step = "" if config.mode in SCRATCH else f", step {progress['total_shared_steps']}"
    here = f"epoch {progress['epoch']}{step}"
    others = "" if final.measured_with.endswith(here) else f"; the weights here are of {here}"
    measured = f" ({final.measured_with}{others})" if final.measured_with else ""  # earlier versions do not say
    return f": validation {metric.name} {final.score:.{metric.decimals}f}{measured}"

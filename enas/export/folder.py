"""Writing an export: whole, or not at all."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors.torch import save

from enas.errors import UserError
from enas.export.onnx_file import check_installed, write_onnx
from enas.files import atomic_folder, write_json
from enas.runs import run
from enas.runs.folder import find_run, saved_config
from enas.settings import SCRATCH, place

HUGGING_FACE = Path(__file__).parent / "copied" / "modeling_enas.py"


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
        output: the folder, which is returned; it must be new or empty.
        dag_path: another architecture of the search space, with the shared weights of the search.
        onnx: write model.onnx too; of a recurrent cell it computes one step.
        data_dir: folder of the run's data; if empty, the folder that the run read.
        log_dir: where run folders lie.
    """
    output = Path(place(output, "output"))
    if onnx:
        check_installed()
    if not output.name or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UserError(f"{output}: exists already; name a new folder")
    folder = find_run({"load_path": load_path, "log_dir": log_dir})
    config = saved_config(folder)
    if not config.space.by_command:
        raise UserError(f"{folder}: a module given in Python has no export; save run.module() by torch.save")
    exported, final, progress = run.exported(folder, dag_path, **({"data_dir": str(data_dir)} if data_dir else {}))
    source = exported.source.read_text(encoding="utf-8")
    has_build = "\nbuild = " in source or "\ndef build(" in source  # which modeling_enas.py reads
    environment = Environment(loader=PackageLoader("enas.export", "."), undefined=StrictUndefined, trim_blocks=True)
    environment.filters["literal"] = _literal
    known: dict[str, Any] = {"exported": exported, "config": config, "final": final, "progress": progress}
    known |= {"hugging_face": has_build and HUGGING_FACE.name, "onnx": onnx, "has_picture": shutil.which("dot")}
    known |= {"is_found": config.mode != "single" and not (dag_path or config.dag_path)}
    card = environment.get_template("card.jinja").render(**known, is_scratch=config.mode in SCRATCH)
    with atomic_folder(output) as made:
        for name, text in {**exported.files, "model.py": source, "README.md": card + "\n"}.items():
            (made / name).write_text(text, encoding="utf-8")
        if onnx:
            write_onnx(exported, made / "model.onnx")
        (made / "model.safetensors").write_bytes(save(exported.weights, metadata={"format": "pt"}))
        write_json(made / "architecture.json", final.architecture.to_dict())
        facts: dict[str, Any] = {name: getattr(config, name) for name in ("dataset", "train_type", "mode")}
        facts |= {"model_type": "enas", "torch": torch.__version__}
        if has_build:
            shutil.copyfile(HUGGING_FACE, made / HUGGING_FACE.name)
            facts["auto_map"] = {f"Auto{name}": f"{HUGGING_FACE.stem}.{name}" for name in ("Config", "Model")}
        write_json(made / "config.json", {**facts, **exported.settings})
        for suffix in (".png", ".svg"):
            config.space.problem().draw(final.architecture, made / f"architecture{suffix}", config.dataset)
    return output


def _literal(text: str) -> str:
    """Return Markdown that shows `text` as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>&|!#~])", r"\\\1", " ".join(text.split()))

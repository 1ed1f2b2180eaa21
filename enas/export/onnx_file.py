"""An exported module as an ONNX file: written by torch's own exporter, and checked with onnxruntime."""

import importlib.util
import io
import logging
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from enas.errors import UserError
from enas.search.problem import Exported

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-5  # of the largest value of an output


def check_installed() -> None:
    """Raise UserError unless the packages that write and check ONNX files are there."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)}: not installed; pip install 'enas[onnx]'")


def write_onnx(exported: Exported, path: Path) -> None:
    """Write the module in evaluation mode, and run the file once beside it; UserError if they differ."""
    import onnxruntime

    module, inputs = exported.module(), tuple(exported.inputs.values())
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter remarks on packages that the module does not need
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):  # graphs of what it cannot take
            settings: dict[str, Any] = {"input_names": [*exported.inputs], "output_names": [*exported.outputs]}
            settings |= {"dynamic_shapes": tuple(exported.dynamic), "external_data": False, "verbose": False}
            torch.onnx.export(module, inputs, path, dynamo=True, **settings)
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"ONNX cannot have this module ({type(error).__name__}); leave --onnx out") from error
    finally:
        logging.disable(before)
    with torch.no_grad():
        results = module(*inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in exported.inputs.items()})
    expected = results if isinstance(results, tuple) else (results,)
    for mine, theirs in zip(expected, map(torch.from_numpy, found), strict=True):
        off = float((mine - theirs).abs().max() / mine.abs().max().clamp_min(1.0))
        if not off <= TOLERANCE:
            raise UserError(f"the ONNX file computes something else than the module, by {off:.2g}; leave --onnx out")

"""The notebook runs as it is."""

import contextlib
import json

import pytest
import tiny

NOTEBOOK = tiny.ROOT / "examples" / "notebook.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_from_own_text_to_a_classifier_that_has_learned(tmp_path, capsys):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names = {"__name__": "__main__"}
    with contextlib.chdir(tmp_path):
        for cell in cells:
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    assert names["accuracy"] > 0.8  # half of the sums are above 39
    assert names["run"].architecture.num_blocks == 4
    assert names["run"]["validation_perplexity"] < 14  # 27 by how frequent words are
    assert "distinct" in capsys.readouterr().out

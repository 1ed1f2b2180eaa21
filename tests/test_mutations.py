"""The list of wrong versions fits the code; `python tests/mutations.py` says which tests catch them."""

import pytest
import tiny
from mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_wrong_version_is_one_change_of_the_code(mutation):
    text = (tiny.ROOT / "enas" / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.right) == 1 and mutation.wrong != mutation.right
    compile(text.replace(mutation.right, mutation.wrong), mutation.file, "exec")
    assert all((tiny.ROOT / "tests" / f"test_{name}.py").is_file() for name in mutation.tests.split())


def test_there_are_enough():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20

"""The folder of a dataset; built-in datasets are made on first use."""

from collections.abc import Callable, Mapping
from pathlib import Path

from enas.errors import NotFoundError, UserError


def check_plain(name: str, data_dir: Path) -> None:
    """Raise UserError where the name of a dataset could lead out of `data_dir`."""
    is_plain = name.isprintable() and name == Path(name).name and "\\" not in name and name != ".."
    if not name or not is_plain:
        raise UserError(f"dataset name {name!r} is not a plain name; give the name of a folder in {data_dir}")


def find_dataset_folder(
    name: str,
    data_dir: Path,
    *,
    makers: Mapping[str, Callable[[Path], object]],
    layout: str,
    how_to_get: Callable[[str, Path], str],
) -> Path:
    """Find the folder `data_dir/name`.

    Args:
        name: the dataset.
        data_dir: the folder of all datasets.
        makers: what makes the built-in ones.
        layout: what such a folder is, for the message about a file in its place.
        how_to_get: the advice, given name and data_dir, when there is no such dataset.

    Raises:
        UserError: the name is not a plain name, or a file is in the way.
        NotFoundError: there is no such dataset.
    """
    check_plain(name, data_dir)
    folder = data_dir / name
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{folder}: is a file; {layout}")
    if name not in makers:
        raise NotFoundError(f"{folder}: no such dataset; {how_to_get(name, data_dir)}")
    makers[name](folder)
    return folder

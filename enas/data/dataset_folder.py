"""The folder of a dataset; built-in datasets are made on first use."""

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enas.data.download import COMMAND
from enas.errors import NotFoundError, UserError, did_you_mean
from enas.settings import place

SPLITS = ("train", "valid", "test")
RESOURCES = "__MACOSX"  # a folder that archives made on a Mac carry beside their content


def folder_of(name: str, data_dir: str | Path) -> Path:
    """Return the folder of a dataset; UserError if its name could lead out of `data_dir`."""
    is_plain = name.isprintable() and name == Path(name).name and "\\" not in name and name != ".." and name[:1] != "~"
    if not name or not is_plain:
        raise UserError(f"dataset name {name!r} is not a plain name; give the name of a folder in {data_dir}")
    return Path(place(data_dir, "data_dir"), name)


@dataclass(frozen=True)
class Kind:
    """Texts, or images: which datasets there are, and how their folders look."""

    own: str  # advice: the files of a dataset of one's own
    example: str  # a path that every such folder has
    downloads: Collection[str]  # the datasets that can be fetched
    makers: Mapping[str, Callable[[Path], object]]  # of the built-in datasets
    others: Mapping[str, str] = field(default_factory=dict)  # datasets of the other kind -> what to do about it

    def find(self, name: str, data_dir: str | Path) -> Path:
        """Find the folder `data_dir/name`; a built-in dataset is made there. UserError for any other missing one."""
        folder = folder_of(name, data_dir)
        if folder.is_dir():
            return folder
        if folder.exists() or name not in self.makers:
            found = ", but a file" if folder.exists() else ""
            raise NotFoundError(f"{folder}: no such dataset{found}{self.how_to_get(name, folder.parent)}")
        self.makers[name](folder)
        return folder

    def how_to_get(self, name: str, data_dir: Path) -> str:
        """Return the end of a message, which says how to get a missing dataset."""
        if name in self.others:
            return f"; {self.others[name]}"
        if name in self.downloads:
            elsewhere = "" if data_dir == Path("data") else f" --data_dir {shlex.quote(str(data_dir))}"
            return f"; get it with: {COMMAND} {name}{elsewhere}"
        if name in self.makers:
            return f"; remove the folder {data_dir / name}; the next run makes it again"
        there = {path.parent.name for path in data_dir.glob(f"[!.]*/{self.example}")}
        near = did_you_mean(name, {*self.downloads, *self.makers, *there} - {name})
        advice = f"{self.own} into {data_dir / name}"
        return f"{near} ({advice})" if near else f"; {advice}"

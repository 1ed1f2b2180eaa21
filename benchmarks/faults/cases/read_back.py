"""Files of an earlier command are damaged, edited, of another version, or made from other data."""

from benchmarks.faults.cases.spoiling import Spoil, all_of, as_folder, content, edited, removed, state, text
from benchmarks.faults.trial import DONE, REFUSED, Case, Trial, crossed

KIND = "read back"
EITHER = (*DONE, *REFUSED)
DAMAGES = {
    "empty": lambda old: b"",
    "cut": lambda old: old[: len(old) // 2],
    "a list": lambda old: b"[]",
    "null": lambda old: b"null",
    "zeros": lambda old: b"\0" * len(old),
    "UTF-16": lambda old: b"\xff\xfe" + old,
    "nested without end": lambda old: b"[" * 100_000,
}
RUN = "logs/found"
FILES = {  # what is read, by whom, and which damages are tried there
    f"{RUN}/params.json": ("resume", "report"),
    f"{RUN}/results.json": ("report", "derive", "export"),
    f"{RUN}/data.json": ("resume", "export"),
    f"{RUN}/machine.json": ("resume",),
    "logs/alone/architecture.json": ("resume scratch",),
    "analysis_results/search_evaluation/table/results.json": ("report evaluated",),
    "analysis_results/search_evaluation/table/searches/*.json": ("evaluate again",),
    "analysis_results/search_evaluation/table/search.json": ("evaluate again",),
    "analysis_results/search_evaluation/table/found.json": ("evaluate again",),
    "table.json": ("evaluate again",),
}
RARE = ("empty", "a list", "zeros", "null")


def _damaged() -> list[Trial]:
    trials = []
    for file, entries in FILES.items():
        for number, entry in enumerate(entries):
            for name, change in DAMAGES.items():
                if (number and name not in RARE[:2]) or ("search_evaluation" in file and name not in RARE):
                    continue
                short = file.split("/")[-1]
                case = Case(f"{short} is {name}", content(file, change), status=EITHER, names=short.split("*")[-1])
                trials.append(Trial(KIND, entry, case))
    return trials


def _results(**changes):
    return edited(f"{RUN}/results.json", lambda data: data.update(changes))


def _params(**changes):
    return edited(f"{RUN}/params.json", lambda data: data.update(changes))


def _in_history(change):
    return edited(f"{RUN}/results.json", lambda data: [change(entry) for entry in data["history"]] and None)


EDITED = {
    ("report", "derive", "export"): {
        "results: wall_seconds null": _results(wall_seconds=None),
        "results: history null": _results(history=None),
        "results: history of texts": _results(history=["one"]),
        "results: epoch a text": _results(epoch="three"),
        "results: architecture of a later kind": _results(architecture={"type": "tree", "nodes": 3}),
        "results: score a text": _results(validation_perplexity="good"),
        "results: history with null": _in_history(lambda entry: entry.update(policy=None, wall_seconds=None)),
        "results: history with a text": _in_history(lambda entry: entry.update(shared_loss="low")),
        "results: a field of a later version": _results(spectrum={"a": 1}),
    },
    ("resume", "report"): {
        "params: a setting of a later version": _params(shared_flux=3),
        "params: a value of another type": _params(max_epoch="many"),
        "params: space of a later version": _params(network_type="transformer"),
        "params: NaN": _params(shared_lr=float("nan")),
    },
    ("resume", "export"): {
        "data.json: names null": edited(f"{RUN}/data.json", lambda data: data.update(names=None)),
        "data.json: splits a list": edited(f"{RUN}/data.json", lambda data: data.update(splits=["train"])),
        "data.json: names are numbers": edited(f"{RUN}/data.json", lambda data: data.update(names=[1, 2])),
        "data.json: without its splits": edited(f"{RUN}/data.json", lambda data: data.pop("splits") and None),
    },
}


NEWEST = f"{RUN}/checkpoints/*.pt"
STATES = {
    "progress has a field of a later version": lambda data: data["progress"].update(tempo=3),
    "progress lacks a field": lambda data: data["progress"].pop("epoch") and None,
    "progress is null": lambda data: data.update(progress=None),
    "history is a number": lambda data: data["progress"].update(history=3),
    "no controller": lambda data: data.pop("controller") and None,
    "another part": lambda data: data.update(momentum={"beta": 0.9}),
    "it is a list": lambda data: [1, 2],
    "it is empty": lambda data: {},
    "random state is a text": lambda data: data[_random_name(data)].update(torch="dice"),
    "random state lacks NumPy": lambda data: data[_random_name(data)].pop("numpy") and None,
    "task is null": lambda data: data.update(task=None),
    "weights are texts": lambda data: data["task"].update(model=dict.fromkeys(data["task"]["model"], "heavy")),
    "optimiser of another shape": lambda data: _optimiser_cut(data),
    "weights are NaN": lambda data: [one.fill_(float("nan")) for one in _floats(data["task"]["model"])] and None,
}


def _random_name(data: dict) -> str:
    return next(name for name, value in data.items() if isinstance(value, dict) and "numpy" in value)


def _floats(model: dict) -> list:
    return [one for one in model.values() if getattr(one, "is_floating_point", bool)()]


def _optimiser_cut(data: dict) -> None:
    for value in _dicts(data):
        if "param_groups" in value:
            value["state"], value["param_groups"] = {}, []


def _dicts(value):
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _dicts(inner)


def _every(pattern: str, act) -> Spoil:
    return lambda folder: [act(path) for path in sorted(folder.glob(pattern))]


NEWEST_CASES = [
    *(Case(f"newest checkpoint is {name}", content(NEWEST, DAMAGES[name])) for name in ("empty", "cut", "zeros")),
    Case("newest checkpoint is a folder", as_folder(NEWEST), status=EITHER, lines=2),
    Case("every checkpoint is damaged", _every(NEWEST, lambda path: path.write_bytes(b"x")), status=REFUSED,
         names="checkpoint"),
    Case("no checkpoint", _every(NEWEST, lambda path: path.unlink()), status=REFUSED),
]  # fmt: skip
BEST = "logs/alone/checkpoints/*.pt"


def _bests(*names: object) -> Spoil:
    return state(lambda data: data["progress"].update(bests=[*names]), BEST)


BEST_CASES = (
    Case("the oldest checkpoints are gone", lambda folder: [one.unlink() for one in sorted(folder.glob(BEST))[:-1]],
         status=EITHER),
    Case("the best checkpoint is gone", _bests("00009-00000009.pt"), status=EITHER, names="best"),
    Case("the best checkpoint is a number", _bests(7), status=REFUSED),
    Case("the best checkpoint lies outside", _bests("../../found/checkpoints/00001-00000014.pt"), status=EITHER),
)  # fmt: skip


def _checkpoints() -> list[Trial]:
    trials = crossed(KIND, "resume, derive, test, export", NEWEST_CASES)
    for name, change in STATES.items():
        entries = "resume, export, test" if name in ("it is a list", "progress is null", "task is null") else "resume"
        names = "version" if "later" in name else ""
        status = EITHER if "another part" in name else (1, *REFUSED) if "NaN" in name else REFUSED
        trials += crossed(KIND, entries, [Case(f"checkpoint: {name}", state(change), status=status, names=names)])
    return trials + crossed(KIND, "export scratch, resume scratch", BEST_CASES)


EVALUATION = "analysis_results/search_evaluation/table"


def _row(change) -> Spoil:
    """Change the table of the evaluation."""
    return edited("table.json", lambda data: change(data) and None)


def _outcome(change) -> Spoil:
    """Change the last outcome of a search within the evaluation."""
    return edited(f"{EVALUATION}/searches/*.json", lambda data: change(data) and None)


EVALUATIONS: dict[str, Spoil] = {
    "a search's run folder is gone": removed(f"{EVALUATION}/searches/search-1"),
    "an outcome lacks its architecture": _outcome(lambda data: data.pop("architecture")),
    "an outcome's seconds are a text": _outcome(lambda data: data.update(seconds="long")),
    "an outcome's scores are too few": _outcome(lambda data: data.update(scores=[1.0])),
    "a training of the table lacks its score": _row(lambda data: data["rows"][0]["runs"][0].pop("validation")),
    "an architecture of the table is of another kind": _row(
        lambda data: data["rows"][0].update(architecture={"type": "tree"})
    ),
    "the table has a row twice": _row(lambda data: data["rows"].append(data["rows"][0])),
    "the table is of a later version": _row(lambda data: data.update(version=9, columns=[])),
}
OTHERS = (
    Case("searches of 2 epochs lie there, 1 is wanted", flags=("--max_epoch", "1"), status=EITHER),
    Case("a larger table is wanted", flags=("--num_truth", "5"), status=EITHER),
    Case("a smaller table is wanted", flags=("--num_truth", "2"), status=EITHER),
    Case("another seed of the search's controller", flags=("--controller_hid", "4"), status=EITHER),
    Case(
        "the data are others",
        content("data/letters/train.txt", lambda old: old.replace(b"a b", b"b a")),
        status=REFUSED,
    ),
)
LOCK = Case("the lock is a folder", all_of(removed(f"{RUN}/.lock"), text(f"{RUN}/.lock/x", "")), status=EITHER)
PICTURES: dict[str, Spoil] = {
    "a picture is cut": content(f"{RUN}/networks/*.png", DAMAGES["cut"]),
    "a picture is empty": content(f"{RUN}/networks/*.png", DAMAGES["empty"]),
    "the pictures are gone": removed(f"{RUN}/networks"),
}


def _either(cases: dict[str, Spoil]) -> list[Case]:
    later = {name: "version" if "setting of a later" in name else "" for name in cases}
    return [Case(name, spoil, status=EITHER, names=later[name]) for name, spoil in cases.items()]


TRIALS = [
    *_damaged(),
    *_checkpoints(),
    *(one for entries, cases in EDITED.items() for one in crossed(KIND, ", ".join(entries), _either(cases))),
    *crossed(KIND, "evaluate again", [*_either(EVALUATIONS), *OTHERS]),
    *crossed(KIND, "resume", [
        LOCK,
        Case("train.log is a folder", as_folder(f"{RUN}/train.log"), status=EITHER),
        Case("TensorBoard's file is damaged", content(f"{RUN}/events*", DAMAGES["zeros"])),
    ]),
    *crossed(KIND, "gif, report", _either(PICTURES)),
]  # fmt: skip

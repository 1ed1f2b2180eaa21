"""The program where something is large, missing or wrong: `python benchmarks/faults/launched.py WHAT …`.

WHAT is one or more names in `STANDINS`, joined by commas; "1:NAME" holds in rank 1 of torchrun alone. What follows is
a script with its flags, or -m with a module and flags.
"""

import errno
import hashlib
import os
import runpy
import signal
import sys
from pathlib import Path


def _windows() -> None:
    """Take away what Windows lacks."""
    del os.sysconf, os.fork, os.geteuid
    sys.platform = "win32"
    sys.modules["fcntl"] = sys.modules["resource"] = None


def _no_locks() -> None:
    """Lock as a network disk without locks does."""
    import fcntl

    def lock(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = lock


def _no_curves() -> None:
    """Let TensorBoard's file be on a full disk."""
    from tensorboardX.event_file_writer import EventsWriter

    def write(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    EventsWriter.write_event = write


def _without(name: str) -> None:
    """Let a module be missing."""
    sys.modules[name] = None


def _candidate(error: Exception) -> None:
    """Let the second architecture that is trained from scratch end in an error."""
    from enas.search.scratch import ScratchTrainer

    train, begun = ScratchTrainer.train, []

    def trained(trainer: object):
        begun.append(trainer)
        if len(begun) == 2:
            raise error
        return train(trainer)

    ScratchTrainer.train = trained


def _diverges() -> None:
    from enas.errors import TrainingDivergedError

    _candidate(TrainingDivergedError("training diverged"))


def _memory() -> None:
    import torch

    _candidate(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))


def _no_memory() -> None:
    _candidate(MemoryError())


def _refuses() -> None:
    from enas.errors import UserError

    _candidate(UserError("this architecture is refused"))


def _other_weights() -> None:
    """Begin with another θ and ω than the other ranks."""
    import torch

    from enas.runs import opening

    made = opening.make_trainer

    def trainer(*args: object, **settings: object):
        training = made(*args, **settings)
        with torch.no_grad():
            for module in (getattr(training, "controller", None), training.task.model):
                for weight in module.parameters() if module is not None else ():
                    weight.add_(0.5)
        return training

    opening.make_trainer = trainer


def _other_step() -> None:
    """Let θ drift after some updates."""
    import torch

    from enas.search.trainer import Trainer

    update = Trainer.update_controller

    def updated(trainer: object, *args: object, **settings: object):
        result = update(trainer, *args, **settings)
        with torch.no_grad():
            next(trainer.controller.parameters()).add_(0.5)
        return result

    Trainer.update_controller = updated


def _other_data() -> None:
    sys.argv += ["--data_dir", "other"]


def _other_settings() -> None:
    sys.argv += ["--shared_lr", "0.5"]


def _dies() -> None:
    """Be killed in the second epoch, as by the kernel when memory runs out."""
    import signal

    from enas.search.trainer import Trainer

    update, done = Trainer.update_controller, []

    def updated(trainer: object, *args: object, **settings: object):
        done.append(1)
        if len(done) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(trainer, *args, **settings)

    Trainer.update_controller = updated


def _runs_out() -> None:
    """Run out of memory in the second epoch."""
    from enas.search.trainer import Trainer

    update, done = Trainer.update_controller, []

    def updated(trainer: object, *args: object, **settings: object):
        done.append(1)
        if len(done) == 6:
            raise MemoryError("cannot allocate 20 GiB")
        return update(trainer, *args, **settings)

    Trainer.update_controller = updated


def _disk() -> None:
    """Leave images on the disk, where threads read them."""
    from enas.cnn import images

    images.load_images.__kwdefaults__["memory_limit"] = 0


def _catalogue() -> None:
    """Give the published dataset the sums of `ptb.tar` in the working directory."""
    from enas.data import download

    found = download.CATALOGUE["ptb"]
    files = [file._replace(sha256=_sum(Path("data/letters") / file.installed)) for file in found.files]
    download.CATALOGUE["ptb"] = found._replace(files=files)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


STANDINS = {
    "disk": _disk, "catalogue": _catalogue, "windows": _windows, "no locks": _no_locks,
    "no curves": _no_curves, "no wandb": lambda: _without("wandb"),
    "diverges": _diverges, "memory": _memory, "no memory": _no_memory,
    "refuses": _refuses, "other weights": _other_weights, "other step": _other_step,
    "other data": _other_data, "other settings": _other_settings, "dies": _dies, "runs out": _runs_out,
}  # fmt: skip


def main(argv: list[str]) -> None:
    """Run what the command line names."""
    what, *rest = argv
    is_module = rest[0] == "-m"
    sys.argv = rest[is_module:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C while stand-ins are loaded is not the program's
    for name in what.split(","):
        rank, _, name = name.rpartition(":")
        if rank in ("", os.environ.get("RANK", "0")):
            STANDINS[name]()
    run = runpy.run_module if is_module else runpy.run_path
    run(sys.argv[0], run_name="__main__", **({"alter_sys": True} if is_module else {}))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Dispatch of the commands, and what is said of errors; imports little, so that `--help` answers at once."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import vlbench
from vlbench.cli.process import leave
from vlbench.cli.registry import find_command, overview
from vlbench.commit import git_commit
from vlbench.errors import ConfigError, VlbenchError, user_error
from vlbench.processes import die_with_announced_parent

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of a disk, which come without the name of the file."""

_WAY_ON = {
    "run": "; the same command goes on where this one ended",
    "fit": "; --resume auto goes on from the last checkpoint in checkpoint.dirpath",
}
"""What an interrupted command says of how to go on."""

_MOST_LINES = 3
"""Lines of a message that are printed as they are; more are made one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words of the command line after `vlbench`; `None` takes those of the process.

    Returns:
        The exit code: 0, 1 if the work failed, 2 if the command line is wrong.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())  # noqa: T201
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(_version())  # noqa: T201
        return 0
    if arguments == ["completion", "configs"]:  # asked for at every TAB: no parser is built
        from vlbench.cli.configs import config_names

        print("\n".join(config_names()))  # noqa: T201
        return 0
    try:
        return find_command(arguments).run(arguments)
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning answers an interruption of its own commands by leaving with exit code 1, without a word, and SIGTERM
        # with exit code 0, as if all was done.
        terminated = type(end).__name__ == "SIGTERMException"
        if isinstance(end, SystemExit) and not terminated and not isinstance(end.__context__, KeyboardInterrupt):
            return end.code if isinstance(end.code, int) else int(bool(end.code))  # a parser has said why
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second one has nothing left to interrupt
        if os.environ.get("LOCAL_RANK", "0") == "0":  # one process of several speaks
            what = "ended by SIGTERM" if terminated else "interrupted"
            print(f"vlbench: {what}{_WAY_ON.get(arguments[0], '')}", file=sys.stderr)  # noqa: T201
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    except Exception as error:
        mendable = _mendable(error, arguments[0])
        if mendable is None:
            raise
        if os.environ.get("VLBENCH_DEBUG"):
            traceback.print_exc()
        lines = str(mendable).splitlines()
        text = "\n".join(lines) if len(lines) <= _MOST_LINES else " ".join(" ".join(lines).split())
        print(f"vlbench: error: {text}", file=sys.stderr)  # noqa: T201
        return mendable.exit_code


def _version() -> str:
    """Version and commit, as in `vlbench 0.2.0 (commit 0123abc, modified)`."""
    commit, dirty, _ = (git_commit() or "").partition("-dirty")
    modified = ", modified" if dirty else ""
    return f"vlbench {vlbench.__version__}" + (f" (commit {commit[:7]}{modified})" if commit else "")


def _mendable(error: Exception, command: str) -> VlbenchError | None:
    """What the user can mend of an error; `None` if it is a bug."""
    inner = user_error(error)
    if inner is not None:
        return inner
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, of options that do not fit the machine
        return ConfigError(f"the options of trainer do not fit this machine or each other: {error}")
    if isinstance(error, OSError) and error.filename is not None:
        return VlbenchError(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return VlbenchError(f"a file cannot be written: {error.strerror}")
    if isinstance(error, MemoryError | OSError | RuntimeError):
        from vlbench.protocols.failures import advice

        # A DataLoader raises that its worker exited, because of what tells the signal.
        said = f"{type(error).__name__}: {error} {error.__cause__ or ''}"
        help_ = advice("fit" if command == "fit" else "test", 1, said)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return VlbenchError(f"{first} ({help_})") if help_ is not None else None
    return None


def _open_closed_streams() -> None:
    """Opens the standard streams that the process was started without, as `>&-` does, to nothing.

    Otherwise `sys` has `None` for them, and the next file that is opened takes their place: what a library written in C
    says on its errors would be in that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - stays open, as the stream would


def entry() -> None:
    """The console script."""
    _open_closed_streams()
    die_with_announced_parent()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files leave as the bytes that they are
    leave(main())

"""A file layer that kills its process at the n-th operation that changes a file."""

import builtins
import io
import os
import signal

_CHANGING = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "chmod", "fsync", "truncate", "write", "link")


class Writes:
    """Counts the operations of this process that change files, and kills it at one of them.

    Args:
        fatal: Number of the operation, counted from 1; 0 kills at none.
        moment: When it dies: `before` the operation, `half` through a write, or `after` it.
    """

    def __init__(self, fatal=0, moment="before"):
        self.fatal = fatal
        self.moment = moment
        self.kinds = []

    def install(self):
        for name in _CHANGING:
            setattr(os, name, self._wrapped(getattr(os, name), name))
        self._open = os.open
        os.open = self._low_level_open
        builtins.open = io.open = self._opened(io.open)
        return self

    def _at(self, moment):
        if len(self.kinds) == self.fatal and moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrapped(self, function, kind):
        def wrapper(*arguments, **options):
            self.kinds.append(kind)
            self._at("before")
            result = function(*arguments, **options)
            self._at("after")
            return result

        return wrapper

    def _low_level_open(self, path, flags, *arguments, **options):
        changing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        function = self._wrapped(self._open, "open") if changing else self._open
        return function(path, flags, *arguments, **options)

    def _opened(self, function):
        layer = self

        class Raw(io.FileIO):
            def write(self, data):
                layer.kinds.append("data")
                layer._at("before")
                if len(layer.kinds) == layer.fatal and layer.moment == "half":
                    super().write(bytes(data)[: len(data) // 2])
                    layer._at("half")
                written = super().write(data)
                layer._at("after")
                return written

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *arguments, **options):
            if not set(mode) & set("wax+") or isinstance(file, int):
                return function(file, mode, buffering, encoding, errors, newline, *arguments, **options)
            raw = layer._wrapped(Raw, "open")(os.fspath(file), mode.replace("b", "").replace("t", ""))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        return opened


def in_child(function, *arguments):
    """Calls a function in a forked process; returns its wait status as an exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = function(*arguments) or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def moments(scenario, folder):
    """Pairs of an operation's number and a moment, for all states that a kill may leave.

    What is there after an operation is there before the next one.
    """
    reader, writer = os.pipe()

    def counted():
        writes = Writes().install()
        scenario(folder)
        os.writev(writer, [",".join(writes.kinds).encode()])

    assert in_child(counted) == 0
    os.close(writer)
    with os.fdopen(reader) as file:
        kinds = file.read().split(",")
    cases = [(number, "before") for number in range(1, len(kinds) + 1)]
    cases += [(number, "half") for number, kind in enumerate(kinds, start=1) if kind == "data"]
    return [*cases, (len(kinds), "after")]


def killed(scenario, folder, fatal, moment):
    """Runs a scenario in a process that is killed; whether it was, and did not end before."""

    def doomed():
        Writes(fatal, moment).install()
        scenario(folder)

    code = in_child(doomed)
    assert code in (0, -signal.SIGKILL), code
    return code != 0

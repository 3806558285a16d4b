"""vlbench: a benchmark suite for moving vision-language models to video action recognition.

`vlbench.load`, `vlbench.evaluate` and `vlbench.leaderboard` are its Python interface; each imports what it needs when
it is first asked for, so that `import vlbench` takes no time.
"""

from typing import TYPE_CHECKING

__version__ = "0.2.0"

__all__ = ["Candidate", "Classification", "Model", "__version__", "evaluate", "leaderboard", "load"]

if TYPE_CHECKING:
    from vlbench.api import Candidate, Classification, Model, evaluate, leaderboard, load
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("vlbench.api"), name)

    def __dir__():
        return sorted({*globals(), *__all__})

"""Every command of vlbench, declared once; imports the standard library only, so that `vlbench --help` answers at once.

A declaration names the command's function, which is imported when the command runs: the function's parameters are the
command's options and its docstring is their help.
"""

from vlbench.cli.declared.data import DATA
from vlbench.cli.declared.models import MODELS
from vlbench.cli.declared.runs import RUNS

DECLARED = (*RUNS, *DATA, *MODELS)
"""Commands in the order of `vlbench --help`."""

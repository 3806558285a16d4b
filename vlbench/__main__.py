"""`python -m vlbench`."""

from vlbench.cli.main import entry

entry()

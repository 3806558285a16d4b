"""Programs for where vlbench is not: a method on a fixed list of classes, from pixels to probabilities."""

from vlbench.deploy.fixed import FixedClasses
from vlbench.deploy.formats import Format, check_ending, write
from vlbench.deploy.interface import KEY, Interface

__all__ = ["KEY", "FixedClasses", "Format", "Interface", "check_ending", "write"]

"""AIM: adapted image models, whose frozen attention runs over time as well."""

from vlbench.methods.aim.module import AIM

__all__ = ["AIM"]

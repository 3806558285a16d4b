"""ST-Adapter: spatio-temporal adapters on the patches of a frozen image tower."""

from vlbench.methods.st_adapter.module import STAdapter

__all__ = ["STAdapter"]

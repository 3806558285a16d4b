"""What every test against reference data needs."""

import pytest

from vlbench.files import cache_folder


@pytest.fixture(scope="package", autouse=True)
def fresh_cache(tmp_path_factory):
    """An empty cache, so that class features come from the code under test and not from an earlier run's file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        cache_folder.cache_clear()
        yield
    cache_folder.cache_clear()

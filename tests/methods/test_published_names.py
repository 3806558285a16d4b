"""What published tables call a method is in the published results."""

import pytest

from tests.methods.test_deviations import METHODS, build
from vlbench.methods import FROSTER, MSTA, MoTE, ViFiCLIP, VLPrompting
from vlbench.results.published_values import published_results

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("method", METHODS)
def test_names_are_those_of_published_results(method):
    assert set(build(METHODS[method]).published_as) <= {result.method for result in published_results()}


def test_a_name_belongs_to_the_configuration():
    assert build(MoTE).published_as == ("MoTE",)
    assert build(MSTA).published_as == ("MSTA",)
    assert build(ViFiCLIP, tuned="text").published_as == ("CLIP text-FT",)
    assert build(ViFiCLIP, tuned="text", original_share=0.3).published_as == ()
    assert build(ViFiCLIP, original_share=0.3).published_as == ("ViFi-CLIP + weight ensemble",)
    assert build(FROSTER).published_as == ()  # the published one rephrases the classes
    assert build(FROSTER, rephrased="file.json").published_as == ("FROSTER",)
    assert build(VLPrompting).published_as == ()  # the published one starts from another training

"""What the record writer is given, and what it says without."""

from types import SimpleNamespace

import lightning
import pytest

from vlbench.backbones import TinyCLIP
from vlbench.errors import ConfigError
from vlbench.evaluation.kept import Keep
from vlbench.methods import MoTE, ZeroShot
from vlbench.results import callback
from vlbench.results.callback import RecordWriter

pytestmark = pytest.mark.quick

TRAINER = SimpleNamespace(callbacks=[])


def test_a_writer_without_data_says_how_to_hand_it_over():
    writer = RecordWriter()
    with pytest.raises(ConfigError, match=r"call RecordWriter\.use\(datamodule, seed\)"):
        writer.on_test_start(TRAINER, ZeroShot(TinyCLIP()))


def test_a_module_that_is_no_method_is_refused():
    with pytest.raises(ConfigError, match="records a VideoTextMethod, LightningModule is none"):
        RecordWriter().setup(TRAINER, lightning.LightningModule(), "fit")


@pytest.mark.parametrize("modulate", [True, False])
def test_modulated_features_depend_on_the_classes(modulate):
    assert MoTE(TinyCLIP(), modulate=modulate).features_depend_on_classes == modulate
    assert not ZeroShot(TinyCLIP()).features_depend_on_classes


def test_a_checkpoint_without_a_writer_knows_no_training():
    method = ZeroShot(TinyCLIP())
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    assert checkpoint["vlbench"]["training"] is None
    method.on_load_checkpoint(checkpoint)
    assert method.provenance is None


@pytest.mark.parametrize("keep", [(), ("views", "templates")])
def test_a_training_keeps_nothing_that_it_was_not_asked_for(keep, monkeypatch):
    """Though the method was tested before, which asked for more."""
    monkeypatch.setattr(callback, "run_settings", lambda *_: {})
    method = ZeroShot(TinyCLIP())
    method.keep = Keep(views=True, templates=True)
    writer = RecordWriter(keep=keep)
    writer.use(SimpleNamespace(), 0)
    writer.setup(TRAINER, method, "fit")
    assert method.keep is None


@pytest.mark.parametrize(
    "keep", ["views,templates", " views, templates", ["views", "templates", "views"], "[views,templates]"]
)
def test_what_is_kept_may_be_a_list_or_a_text_with_commas(keep):
    assert RecordWriter(keep=keep).keep == ("views", "templates")


@pytest.mark.parametrize("keep", ["", (), []])
def test_nothing_may_be_kept(keep):
    assert RecordWriter(keep=keep).keep == ()


@pytest.mark.parametrize("keep", ["views,frames", ["frames"], "[frames]", "frames"])
def test_what_cannot_be_kept_is_named(keep):
    with pytest.raises(
        ConfigError, match=r"record\.keep has 'frames'; allowed: views, templates, epochs, several with"
    ):
        RecordWriter(keep=keep)

"""Programs in every format give what their method gives, for any number of videos and views, or are not written."""

import json
import sys
from importlib.util import find_spec

import pytest
import torch
from safetensors import safe_open
from torch.func import functional_call
from torch.torch_version import TorchVersion

from tests.deploy.methods import FRAMES, KINDS, NAMES, moved
from vlbench.deploy import KEY, FixedClasses, Interface, formats, write
from vlbench.deploy.formats import example
from vlbench.errors import CheckpointError, ConfigError, WriteError
from vlbench.methods import OST, XCLIP, NearestNeighbours, ZeroShot

needs_onnx = pytest.mark.skipif(
    torch.__version__ < "2.7" or any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed, or torch is older than 2.7; make test-newest has them",
)
QUICK = {"MoTE", "MSTA", "TCCLIP", "NearestNeighbours"}
"""Methods with operations that others lack: modulation by the nearest classes, merging of tokens, scattered votes."""
ENDINGS = {"safetensors": "safetensors", "torch_export": "pt2", "onnx": "onnx"}


def interface(module):
    backbone = module.method.backbone
    return Interface(
        classes=module.class_names, output=module.output, frames=FRAMES, image_size=32, short_side=32,
        interpolation="bicubic", resize_mode="shortest", sampling="uniform", views={"clips": 1, "crops": 1},
        mean=tuple(backbone.mean.flatten().tolist()), std=tuple(backbone.std.flatten().tolist()),
        method=module.method.name, backbone=backbone.identity.as_dict(), weights=None, training=None, version="0",
    )  # fmt: skip


def onnx_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def computed(path):
    """The function of a file from pixels to outputs, as a user of the format has it."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = onnx_session(path)
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


@pytest.fixture
def few_rounds(monkeypatch):
    """OST's transport in 3 rounds at most, as each one is traced."""
    monkeypatch.setattr("vlbench.methods.ost.transport._ROUNDS", 3)


def check(method, run):
    """Whether what `run` makes of a module computes the same, for other batches than it was traced with."""
    with torch.no_grad(), method.evaluation_weights():
        module = FixedClasses(method, NAMES, FRAMES)
        program = run(module)
        for batch in ((1, 1), (2, 1), (1, 3)):
            pixels = example(module, *batch, seed=5)
            torch.testing.assert_close(program(pixels), module(pixels), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_method_is_the_same_in_torch_export(kind, few_rounds):
    check(moved(kind), lambda module: formats.exported(module).module())


@needs_onnx
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if name in QUICK else pytest.mark.soak) for name, kind in KINDS.items()],
    ids=KINDS,
)
def test_every_method_is_the_same_in_onnx_runtime(kind, few_rounds, tmp_path):
    def run(module):
        written = write(module, interface(module), tmp_path / "program.onnx", "onnx")
        assert written.difference <= 1e-4
        return computed(tmp_path / "program.onnx")

    check(moved(kind), run)


def small(**options):
    return moved(ZeroShot, **options)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A module, and its file in every format."""
    folder, module = tmp_path_factory.mktemp("programs"), FixedClasses(small(), NAMES, FRAMES)
    program = formats.exported(module)
    paths = {name: folder / f"program.{ending}" for name, ending in ENDINGS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "exported", lambda module: program)
        for name, path in paths.items():
            if name != "onnx" or not needs_onnx.args[0]:
                write(module, interface(module), path, name)
    return module, paths


def said(path):
    """What a file says of itself, as a user of its format reads it."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return file.metadata()[KEY]
    if path.suffix == ".pt2":
        extra = {KEY: ""}
        torch.export.load(path, extra_files=extra)
        return extra[KEY]
    return onnx_session(path).get_modelmeta().custom_metadata_map[KEY]


EVERY = [pytest.param(name, marks=needs_onnx if name == "onnx" else ()) for name in ENDINGS]


@pytest.mark.parametrize("name", EVERY)
def test_a_file_says_what_to_feed_it(name, programs):
    module, paths = programs
    content = json.loads(said(paths[name]))
    assert content["classes"] == list(NAMES)
    assert content["input"] == {
        "name": "pixels", "dtype": "uint8", "shape": ["videos", "views", FRAMES, 3, 32, 32], "channels": "RGB",
    }  # fmt: skip
    assert content["output"] == "probabilities"
    assert content["output_shape"] == ["videos", len(NAMES)]
    assert content["mean"] == pytest.approx(module.method.backbone.preprocess.mean)
    assert content["backbone"]["digest"] == module.method.backbone.identity.digest


@needs_onnx
def test_names_of_input_and_output_are_in_the_graph(programs):
    session = onnx_session(programs[1]["onnx"])
    (pixels,), (output,) = session.get_inputs(), session.get_outputs()
    videos, views, *rest = pixels.shape
    assert (pixels.name, pixels.type, rest) == ("pixels", "tensor(uint8)", [FRAMES, 3, 32, 32])
    assert isinstance(videos, str)  # any number, under a name of torch's own
    assert isinstance(views, str)
    assert (output.name, output.shape) == ("probabilities", [videos, len(NAMES)])


@pytest.mark.parametrize("shape", [(1, 1, 5, 3, 32, 32), (1, 1, FRAMES, 3, 64, 32)])
@pytest.mark.parametrize("name", EVERY[1:])
def test_a_program_names_pixels_of_another_shape(name, shape, programs):
    """In the runtime's own words; to torch 2.6 pixels are the first argument."""
    with pytest.raises(Exception, match=r"pixels|args\[0\]"):
        computed(programs[1][name])(torch.zeros(shape, dtype=torch.uint8))


def test_tensors_of_safetensors_are_all_that_a_module_needs(programs):
    module, paths = programs
    with safe_open(paths["safetensors"], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    state = dict((*module.named_parameters(), *module.named_buffers()))
    assert set(tensors) < set(state)
    nothing = {name: torch.full_like(value, float("nan")) for name, value in state.items() if value.is_floating_point()}
    pixels = example(module, 2, 1)
    with torch.no_grad():
        outputs = functional_call(module, {**nothing, **tensors}, (pixels,))
        torch.testing.assert_close(outputs, module(pixels), rtol=0, atol=0)


def test_a_constant_that_no_output_needs_is_left_out():
    method = small()
    method.register_buffer("spare", torch.ones(3), persistent=False)
    constants = formats.exported(FixedClasses(method, NAMES, FRAMES)).constants
    assert "method.backbone.mean" in constants
    assert "method.spare" not in constants


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [1.1e-4, -1.1e-4, float("nan")])
def test_a_program_that_differs_is_not_written(error, programs, tmp_path, monkeypatch):
    name, module, path = "torch_export", programs[0], tmp_path / "program.pt2"
    path.write_text("what was there before")
    writer, reader = formats._FORMATS[name]

    def wrong(*arguments):
        right = reader(*arguments)
        return lambda pixels: right(pixels) + error

    monkeypatch.setitem(formats._FORMATS, name, (writer, wrong))
    with pytest.raises(CheckpointError, match=r"differ by up to (0.00011|nan) from those of zero_shot"):
        write(module, interface(module), path, name)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there before"


def test_weights_that_a_file_lacks_are_found(programs, tmp_path, monkeypatch):
    """Those of the module are not taken for them."""
    module, paths = programs
    with safe_open(paths["safetensors"], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    lost = next(name for name in tensors if name.endswith("conv1.weight"))
    monkeypatch.setattr(formats, "_tensors", lambda _: {name: tensors[name] for name in tensors.keys() - {lost}})
    with pytest.raises(CheckpointError, match="differ by up to nan"):
        write(module, interface(module), tmp_path / "program.safetensors", "safetensors")
    assert not list(tmp_path.iterdir())


def test_a_small_error_counts_where_outputs_are_small(tmp_path, monkeypatch):
    """6e-6 of 2,000 classes of 5e-4 each is no rounding."""
    names = tuple(f"class {index}" for index in range(2000))
    method = small()
    method.encode_classes = lambda names: torch.nn.functional.normalize(torch.ones(len(names), 128), dim=-1)
    module = FixedClasses(method, names, FRAMES)
    writer, reader = formats._FORMATS["torch_export"]
    monkeypatch.setitem(
        formats._FORMATS, "torch_export", (writer, lambda *given: lambda pixels: reader(*given)(pixels) + 6e-6)
    )
    with pytest.raises(CheckpointError, match="differ by up to 6e-06"):
        write(module, interface(module), tmp_path / "program.pt2", "torch_export")


def test_scores_may_be_negative(tmp_path):
    class Negative(NearestNeighbours):
        def score(self, video, classes):
            return super().score(video, classes) - 9

    module = FixedClasses(moved(Negative), NAMES, FRAMES)
    written = write(module, interface(module), tmp_path / "program.safetensors", "safetensors")
    assert 1 < written.largest <= 9


@pytest.mark.parametrize("name", EVERY)
def test_a_full_disk_is_named_and_leaves_the_old_file(name, tmp_path):
    """As a limit of the size of files is one; torch ends a process that meets it."""
    resource = pytest.importorskip("resource")
    module, path = FixedClasses(small(), NAMES, FRAMES), tmp_path / f"program.{ENDINGS[name]}"
    path.write_text("what was there before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(WriteError, match=rf"^cannot write {path}: File too large"):
            write(module, interface(module), path, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == [(path, "what was there before")]


def test_a_name_with_another_ending_is_refused(programs, tmp_path):
    module = programs[0]
    with pytest.raises(ConfigError, match=r"allowed with the format onnx: a name that ends in \.onnx"):
        write(module, interface(module), tmp_path / "program.pt2", "onnx")


@pytest.mark.skipif(torch.__version__ < "2.7", reason="older ones are refused for another reason")
def test_a_package_that_is_missing_is_named(programs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    module = programs[0]
    with pytest.raises(ConfigError, match=r"^format is onnx, which needs onnx .*: pip install 'vlbench\[onnx\]'"):
        write(module, interface(module), tmp_path / "program.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_torch_that_cannot_convert_every_method_is_named(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.6.0"))
    module = programs[0]
    with pytest.raises(ConfigError, match=r"^format is onnx, which needs torch 2\.7 or newer, and this is 2\.6\.0"):
        write(module, interface(module), tmp_path / "program.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_weights_that_no_onnx_file_holds_are_refused(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_LARGEST_ONNX", 1000)
    module = programs[0]
    with pytest.raises(ConfigError, match="an ONNX file holds 2 GB; give --format torch_export"):
        write(module, interface(module), tmp_path / "program.onnx", "onnx")


def test_a_method_that_looks_at_values_is_refused_in_one_sentence(tmp_path):
    class ByValue(ZeroShot):
        def score(self, video, classes):
            return super().score(video if video[0, 0] > 0 else -video, classes)

    module = FixedClasses(moved(ByValue), NAMES, FRAMES)
    with pytest.raises(ConfigError, match=r"^zero_shot cannot be exported: torch\.export stops with \w+: ") as error:
        write(module, interface(module), tmp_path / "program.pt2", "torch_export")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_method_that_counts_videos_by_len_is_refused(tmp_path):
    class ByLength(ZeroShot):
        def pool_frames(self, frames, classes=None):
            return super().pool_frames(frames.reshape(len(frames), -1, frames.shape[-1]), classes)

    module = FixedClasses(moved(ByLength), NAMES, FRAMES)
    with pytest.raises(
        CheckpointError, match=r"^the program stops at 1 videos of 1 views .* write tensor\.shape\[0\]$"
    ):
        write(module, interface(module), tmp_path / "program.pt2", "torch_export")
    assert list(tmp_path.iterdir()) == []


def test_a_methods_refusal_is_its_own(tmp_path):
    with torch.no_grad():
        module = FixedClasses(moved(OST, stop="batch"), NAMES, FRAMES)
    with pytest.raises(ConfigError, match=r"^stop is 'batch', with which scores depend on the videos beside a video"):
        write(module, interface(module), tmp_path / "program.pt2", "torch_export")
    with torch.no_grad():
        module = FixedClasses(moved(XCLIP), NAMES, FRAMES + 1)
    with pytest.raises(ConfigError, match=r"^frames is 2 and a clip has 3; X-CLIP learns a position for each frame"):
        write(module, interface(module), tmp_path / "program.pt2", "torch_export")

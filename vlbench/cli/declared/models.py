"""Commands of methods, backbones and weights, and the shell's."""

from __future__ import annotations

from typing import Literal

from vlbench.cli.declaration import Command
from vlbench.cli.declared.forms import CONFIG, flag

MODELS = (
    Command(
        "methods show",
        "methods",
        "trainable parameters of a method",
        "vlbench.cli.commands:methods_show",
        "vlbench methods show msta_fewshot.yaml",
        positional={
            "configs": {"type": str, "nargs": "+", "help": "configurations by name, such as msta_fewshot.yaml"}
        },
        options={"memory": flag("estimate the memory of a training step on a GPU too, in float32 and in bfloat16")},
        inputs={"configs": "configuration"},
    ),
    Command(
        "backbones list",
        "backbones",
        "architectures, their released weights and the methods that can use them",
        "vlbench.cli.commands:backbones_list",
        "vlbench backbones list --match siglip2",
        options={"flops": flag("count parameters and, in billions, multiply-adds of a frame; about a minute for all")},
    ),
    Command(
        "backbones show",
        "backbones",
        "one of them in full",
        "vlbench.cli.commands:backbones_show",
        "vlbench backbones show PE-Core-L-14-336",
        positional={"model": {"type": str, "help": "name of an architecture, such as ViT-B-16-quickgelu"}},
    ),
    Command(
        "weights import viclip",
        "weights",
        "a released ViCLIP file to a backbone's weights",
        "vlbench.cli.commands:viclip_import",
        positional={"file": {"help": "the released file, such as ViClip-InternVid-10M-FLT.pth"}},
        inputs={"file": "file"},
    ),
    Command(
        "weights import internvideo2",
        "weights",
        "released InternVideo2-CLIP files to a backbone's weights",
        "vlbench.cli.commands:internvideo2_import",
        positional={"file": {"help": "the released file, such as pytorch_model.bin"}},
        inputs={"file": "file", "vision": "file", "text": "file"},
    ),
    Command(
        "weights import",
        "weights",
        "a method's released file to a checkpoint",
        "vlbench.cli.commands:weights_import",
        positional={
            "method": {"type": str, "help": "name of the method, such as mote"},
            "file": {"help": "the released file, such as MoTE_B16.pt"},
        },
        inputs={"file": "file"},
    ),
    Command(
        "weights choose",
        "weights",
        "of several trainings the one that is best on held-out training videos",
        "vlbench.cli.commands:weights_choose",
        positional={"checkpoints": {"nargs": "+", "help": "checkpoints of `vlbench fit`"}},
        inputs={"checkpoints": "file"},
    ),
    Command(
        "weights export",
        "weights",
        "a method on fixed classes for ONNX Runtime and torch.export, or a MoTE with merged experts",
        "vlbench.cli.commands:weights_export",
        "vlbench weights export last.ckpt --classes ucf101 --format onnx --out msta.onnx",
        positional={"checkpoint": {"nargs": "?", "help": "a checkpoint; none for a method that nothing trains of"}},
        options={
            "config": {
                **CONFIG,
                "default": [],
                "help": "configurations of the training, if the checkpoint has none",
            }
        },
        inputs={"checkpoint": "file", "config": "configuration"},
    ),
    Command(
        "completion",
        "shell",
        "a script that completes commands, options and configurations",
        "vlbench.cli.completion:completion",
        "vlbench completion bash > vlbench.bash",
        positional={"shell": {"type": Literal["bash", "zsh", "fish"], "help": "shell that the script is for"}},
    ),
)

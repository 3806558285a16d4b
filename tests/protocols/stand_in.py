"""A stand-in for `vlbench` that takes no time: behaves as its method's configuration says, leaves what `vlbench` would.

`python -m tests.protocols.stand_in` is a server of stages, with arguments a single stage.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import yaml

from tests.results.test_record import record
from vlbench.files import replacing, write_atomically
from vlbench.protocols.server import serve
from vlbench.results.pairs import write_pair


def run(arguments):
    action = arguments[0]
    if arguments[:2] == ["weights", "choose"]:
        *candidates, _, chosen = map(Path, arguments[2:])
        write_atomically(chosen, b"".join(path.read_bytes() for path in candidates[-1:]))
        return 0
    options = list(zip(arguments[1::2], arguments[2::2], strict=True))
    configs = [yaml.safe_load(Path(value).read_text()) for option, value in options if option == "--config"]
    behaviour, overlay = configs[0], configs[-1]
    note(behaviour, action)
    for name, value in behaviour.get("environment", {}).items():
        assert os.environ.get(name) == value, f"{name} is {os.environ.get(name)}"
    for name in behaviour.get("note_environment", []):
        note(behaviour, f"{name}={os.environ.get(name)}")
    if behaviour.get("kill_server"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if "remove" in behaviour:
        shutil.rmtree(behaviour["remove"])
    if behaviour.get("fail") == action:
        print("some progress")
        print(behaviour.get("message", "out of luck"), file=sys.stderr)
        if "signal" in behaviour:
            os.kill(os.getpid(), behaviour["signal"])
        return 3
    if action == "fit":
        fit(behaviour, overlay, dict(options).get("--resume"))
    else:
        test(behaviour, overlay)
    note(behaviour, f"end-{action}")
    return 0


def fit(behaviour, overlay, resume):
    folder = Path(overlay["checkpoint"]["dirpath"])
    last = folder / "last.ckpt"
    epochs = json.loads(last.read_text())["epochs"] if resume == "auto" and last.is_file() else 0
    while epochs < behaviour.get("epochs", 1):
        time.sleep(behaviour.get("sleep", 0))
        note(behaviour, "epoch")
        epochs += 1
        write_atomically(last, json.dumps({"epochs": epochs}).encode())
    if overlay.get("selection", "last") != "last":
        write_atomically(folder / "best.ckpt", last.read_bytes())


def test(behaviour, overlay):
    time.sleep(behaviour.get("sleep", 0))
    weights = json.loads(Path(overlay["ckpt_path"]).read_text()) if "ckpt_path" in overlay else None
    out, name, subsets = (
        Path(overlay["record"]["folder"]),
        overlay["record"]["name"],
        overlay["data"]["init_args"]["test"],
    )
    for subset in subsets:
        one = name if len(subsets) == 1 else f"{name}-{subset['classes']}-split{subset['split']}"
        with replacing(out / "predictions" / f"{one}.safetensors") as temporary:
            temporary.write_text("half of the scores")
            time.sleep(behaviour.get("sleep", 0))
        write_pair(
            record(stage=overlay["record"]["stage"], weights=weights),
            lambda path: path.write_bytes(b"scores"),
            out,
            one,
        )


def note(behaviour, what):
    with Path(behaviour["calls"]).open("a") as calls:
        calls.write(f"{what}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(run(sys.argv[1:]))
    serve(run)

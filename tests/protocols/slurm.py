"""A stand-in for SLURM: `sbatch`, `srun`, `sacct`, `scancel` and `scontrol requeue`, as far as submitit uses them.

One program, called by the name of the command. Its state is in the folder of the program. A minute of SLURM's takes
half a second, and `--signal` comes when the time limit is over.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
MINUTE = 0.5


def install(folder):
    """Makes the commands in a folder that a test puts on the path."""
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).absolute()} {name} {folder} "$@"\n')
        script.chmod(0o755)
    return folder


def sbatch(state, arguments):
    number = 100 + len(list(state.glob("*.job")))
    text = Path(arguments[-1]).read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
    if (state / "refuses").is_file():
        sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit")
    write(state, number, {"script": text, "options": options, "starts": 0})
    queue(state, number)
    print(f"Submitted batch job {number}")


def queue(state, number):
    """Has a job wait for its start, also one that SLURM puts into the queue again."""
    write(state, number, {**read(state, number), "state": "PENDING"})
    subprocess.Popen(
        [sys.executable, __file__, "_run", str(state), str(number)],
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def run(state, arguments):
    """The life of a job, in a process that outlives `sbatch`."""
    number = int(arguments[0])
    again = True
    while again:
        options = read(state, number)["options"]
        tasks = options.get("ntasks-per-node", "1")
        environment = {
            **os.environ,
            "SLURM_JOB_ID": str(number),
            "SLURM_NTASKS": str(int(tasks) * int(options.get("nodes", "1"))),
            "SLURM_NTASKS_PER_NODE": tasks,
            "SLURM_JOB_NUM_NODES": options.get("nodes", "1"),
        }
        with changing(state, number) as job:
            if job["state"] != "PENDING" and job["state"] != "REQUEUED":
                return
            process = subprocess.Popen(["bash", "-c", job["script"]], env=environment, start_new_session=True)
            job.update(state="RUNNING", starts=job["starts"] + 1, group=process.pid)
        limit = time.monotonic() + int(options.get("time", "5")) * MINUTE
        while process.poll() is None:
            if time.monotonic() > limit:
                limit = float("inf")
                tell(process.pid, signal.SIGUSR2)
            if read(state, number)["state"] not in ("RUNNING", "SUSPENDED"):
                time.sleep(0.2)  # `scontrol` comes back before it is told itself
                tell(process.pid, signal.SIGTERM)
                time.sleep(0.2)
                kill_group(process.pid)
            time.sleep(0.02)
        with changing(state, number) as job:
            again = job["state"] == "REQUEUED"
            if job["state"] == "RUNNING":
                job["state"] = "COMPLETED" if process.returncode == 0 else "FAILED"


def tell(script, number):
    """Sends a signal: the script itself gets none, all processes of its steps do."""
    for child in descendants(script):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def srun(state, arguments):
    options, cores = {}, None
    words = iter(arguments)
    for word in words:
        if word in ("--output", "--error"):
            options[word] = next(words)
        elif word.startswith("--cpus-per-task="):
            cores = word.partition("=")[2]
        elif not word.startswith("--"):
            break
    command = [word, *words]
    processes = []
    for task in range(int(os.environ["SLURM_NTASKS"])):
        environment = {**os.environ, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"}
        environment["SLURM_STEP_ID"] = "0"
        environment.pop("SLURM_CPUS_PER_TASK", None)  # SLURM 22.05 and later
        if cores is not None:
            environment["SLURM_CPUS_PER_TASK"] = cores
        with contextlib.ExitStack() as files:
            out, err = (
                files.enter_context(
                    Path(options[key].replace("%j", environment["SLURM_JOB_ID"]).replace("%t", str(task))).open("ab")
                )
                for key in ("--output", "--error")
            )
            processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=err))
    sys.exit(max(process.wait() != 0 for process in processes))


def sacct(state, arguments):
    if (state / "silent").is_file():
        sys.exit("sacct: error: Problem talking to the database: Connection refused")
    print("JobID|State|NodeList")
    for number in (arguments[i + 1] for i, word in enumerate(arguments) if word == "-j"):
        if (state / f"{number}.job").is_file():
            print(f"{number}|{read(state, int(number))['state']}|here")


def scancel(state, arguments):
    if (state / "silent").is_file():
        sys.exit("scancel: error: Unable to contact slurm controller")
    mark(state, int(arguments[0]), "CANCELLED by 0")


def scontrol(state, arguments):
    assert arguments[0] == "requeue"
    mark(state, int(arguments[1]), "REQUEUED")


def mark(state, number, what):
    with changing(state, number) as job:
        if job["state"] in ("PENDING", "RUNNING", "SUSPENDED"):
            job["state"] = what


@contextlib.contextmanager
def changing(state, number):
    """A job to change, while no other process does: one that is cancelled as it starts stays cancelled."""
    with (state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = read(state, number)
        yield job
        write(state, number, job)


def read(state, number):
    return json.loads((state / f"{number}.job").read_text())


def write(state, number, job):
    temporary = state / f"{number}.{os.getpid()}"
    temporary.write_text(json.dumps(job))
    temporary.rename(state / f"{number}.job")


def descendants(pid):
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def kill_group(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def clear(state):
    """Kills what is left of all jobs."""
    for path in state.glob("*.job"):
        mark(state, int(path.stem), "CANCELLED")
        if (group := json.loads(path.read_text()).get("group")) is not None:
            kill_group(group)


if __name__ == "__main__":
    name, folder, *words = sys.argv[1:]
    {"_run": run, **{command: globals()[command] for command in COMMANDS}}[name](Path(folder), words)

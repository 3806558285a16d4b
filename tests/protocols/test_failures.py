"""Which of the processes of a stage is to blame, from logs like those that two gloo processes leave."""

import errno
import re
import signal
from unittest.mock import Mock

import pytest

from vlbench.cli import main
from vlbench.protocols.failures import diagnose

PEER = """[rank0]: Traceback (most recent call last):
[rank0]:   File "lightning/pytorch/trainer/call.py", line 49, in _call_and_handle_interrupt
[rank0]: RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]
"""
TRACE = "Traceback (most recent call last):\n" + '  File "x.py", line 1, in f\n    f()\n' * 20
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 79 GiB"
HOST = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 99 bytes."
)
KERNEL = "killed, by the kernel for lack of memory"
# What torch, its libraries, numpy and Python say where memory of the device or of the machine is not to be had.
NO_MEMORY = [
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.",
    "torch.AcceleratorError: CUDA error: out of memory",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "RuntimeError: CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "RuntimeError: cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "RuntimeError: cuFFT error: CUFFT_ALLOC_FAILED",
    "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled cuda error\nLast error:\n"
    "Cuda failure 2 'out of memory'",
    "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled cuda error\nLast error:\n"
    "Failed to CUDA calloc async 608 bytes",
    "MemoryError",
    "MemoryError: cannot allocate",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.20 GiB for an array with shape (858993459,)",
    "RuntimeError: std::bad_alloc",
    "OSError: [Errno 12] Cannot allocate memory",
]
NO_SHARED_MEMORY = [
    "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. ",
    "RuntimeError: unable to write to file </torch_7_1_0>: No space left on device (28)",
    "RuntimeError: unable to allocate shared memory(shm) for file </torch_7_1_0>: No space left on device (28)",
    "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled system error\nLast error:\n"
    "Error while creating shared memory segment /dev/shm/nccl-Fx1 (size 9637888)",
    "Fatal Python error: Bus error",
]


@pytest.mark.parametrize(
    ("log", "code", "cause", "advice"),
    [
        ("vlbench: error: cannot decode a.mp4: truncated\n" + PEER, -9, "vlbench: error: cannot decode a.mp4", None),
        ("vlbench: error: cannot decode a.mp4: x\n" + TRACE + "ValueError: later\n", 1, "cannot decode a.mp4", None),
        (f"Epoch 1\n{TRACE}{CUDA}\n{PEER}", -9, "CUDA out of memory", "out of memory: try"),
        (f"vlbench: error: {CUDA} (out of memory: try less)\n{PEER}", -9, "CUDA out of memory", "out of memory: try"),
        (f"{TRACE}{HOST}\n{PEER}", -9, "can't allocate memory", "out of memory: try"),
        (f"{TRACE}ZeroDivisionError: division by zero\n{PEER}", -9, "ZeroDivisionError: division by zero", None),
        (f"{PEER}{TRACE}ZeroDivisionError\n", 1, "ZeroDivisionError", None),
        ("Epoch 1\n", -9, None, KERNEL),
        (f"Epoch 1\n{PEER}", 1, "Connection closed by peer", KERNEL),
        ("Epoch 1\n", 1, None, None),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. \n", 1, "killed by signal", "num_work"),
    ],
)
@pytest.mark.quick
def test_the_first_process_that_failed_is_to_blame(log, code, cause, advice):
    diagnosis = diagnose("fit", code, log.splitlines())
    assert (cause is None) == (diagnosis.cause is None)
    assert cause is None or cause in diagnosis.cause
    assert (advice is None) == (diagnosis.advice is None)
    assert advice is None or advice in diagnosis.advice


@pytest.mark.parametrize(("advised", "message"), [
    *(("out of memory: try a smaller", message) for message in NO_MEMORY),
    *(("more shared memory (docker run --shm-size)", message) for message in NO_SHARED_MEMORY),
])  # fmt: skip
@pytest.mark.quick
def test_a_lack_of_memory_is_seen_in_every_librarys_words(advised, message):
    for log in (f"{TRACE}{message}\n{PEER}", f"[rank1]: {TRACE}[rank1]: {message}\n{PEER}"):
        cause, advice = diagnose("fit", -9, log.splitlines())
        assert cause.removeprefix("[rank1]: ") in message
        assert advised in advice


@pytest.mark.parametrize(("message", "cause"), [
    ("Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):", "Segmentation fault"),
    (
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no such kernel\n"
        "Fatal Python error: Aborted",
        "no such kernel",
    ),
    (
        "ValueError: Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nValueError: the third frame',
        "ValueError: the third frame",
    ),
])  # fmt: skip
@pytest.mark.quick
def test_the_words_of_a_crash_are_its_cause(message, cause):
    """The other process says that it lost the one that crashed, before it or after it."""
    traced = TRACE if message.startswith("ValueError") else ""
    for log in (f"{traced}{message}\n{PEER}", f"{PEER}{traced}{message}\n"):
        diagnosis = diagnose("fit", -9, log.splitlines())
        assert cause in diagnosis.cause
        assert diagnosis.advice is None


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), RuntimeError(NO_MEMORY[3])]
)
def test_a_command_without_memory_says_so_in_one_sentence(monkeypatch, capsys, error):
    monkeypatch.setattr(main, "find_command", lambda _: Mock(run=Mock(side_effect=error)))
    assert main.main(["test"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"vlbench: error: .*(Memory|memory|ALLOC).* \(out of memory: try a smaller .*\)\n", said)


def test_a_killed_data_worker_is_named_in_one_sentence(monkeypatch, capsys):
    error = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    error.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    monkeypatch.setattr(main, "find_command", lambda _: Mock(run=Mock(side_effect=error)))
    assert main.main(["test"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "vlbench: error: DataLoader worker (pid(s) 7) exited unexpectedly (a process that decodes was"
    )


def test_a_process_that_was_killed_for_another_one_is_not_out_of_memory(lab):
    """Rank 1 raises, Lightning kills rank 0, whose end the runner sees."""
    message = f"vlbench: error: cannot decode a.mp4: truncated\n{TRACE}"
    lab.behave("one", fail="fit", message=message, signal=signal.SIGKILL)
    assert len(lab.runner(["one"]).run()) == 2
    assert "the first error in it: vlbench: error: cannot decode a.mp4: truncated" in lab.said
    assert "kernel" not in lab.said


def test_a_cause_at_the_end_of_the_log_is_not_repeated(lab):
    lab.behave("one", fail="fit", message="vlbench: error: no such thing")
    lab.runner(["one"]).run()
    assert lab.said.count("no such thing") == 1


def test_a_stage_that_crashes_says_by_which_signal(lab):
    lab.behave("one", fail="fit", signal=signal.SIGSEGV)
    lab.runner(["one"]).run()
    assert "Fatal Python error: Segmentation fault" in lab.said
    assert "kernel" not in lab.said

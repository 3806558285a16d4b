"""Which of the processes of a stage is to blame, from logs like those that two gloo processes leave."""

import signal

import pytest

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

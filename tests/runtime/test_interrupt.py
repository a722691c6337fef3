"""What SIGTERM and Ctrl-C do."""

import os
import signal
import subprocess
import sys

import pytest

from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.interrupt import Interrupted, StopSignal


@pytest.fixture
def default_ctrl_c():
    """Python's own handler, which is missing where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_does_not_tear_the_work(signum):
    with StopSignal() as stop:
        os.kill(os.getpid(), signum)
        received = stop.received
    assert received == signum


def test_work_that_can_be_dropped_is_dropped_at_once():
    with StopSignal() as stop:
        with pytest.raises(Interrupted, match="SIGTERM") as raised, stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("went on")
        assert raised.value.signum == signal.SIGTERM
        with pytest.raises(Interrupted), stop.interruptible():
            raise AssertionError("started after the signal")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_that_got_lost_is_raised_at_the_end_of_the_block():
    class Collected:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    done = []
    with StopSignal() as stop, pytest.raises(Interrupted), stop.interruptible():
        Collected()
        done.append("the rest of the block")
    assert done


def test_work_shared_with_other_processes_is_not_dropped():
    done = []
    with StopSignal(shared=True) as stop:
        for _ in range(2):
            with stop.interruptible():
                os.kill(os.getpid(), signal.SIGTERM) if not done else None
                done.append("the rest of the work")
        assert stop.received == signal.SIGTERM and len(done) == 2


def test_a_second_signal_acts_as_usual(default_ctrl_c):
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()


TRACED = """
import os, signal, sys
import jax
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.interrupt import StopSignal
signum = getattr(signal, sys.argv[1])

def traced(x):  # the exception passes through JAX
    os.kill(os.getpid(), signum)
    for _ in range(1000):
        pass
    return x

def work():
    if signum == signal.SIGTERM:
        with StopSignal() as stop, stop.interruptible():
            jax.jit(traced)(1.0)
    else:
        jax.jit(traced)(1.0)

signal.signal(signal.SIGINT, signal.default_int_handler)
run_command(work)
print("went on")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name, status, said", [("SIGINT", 130, "stopped"), ("SIGTERM", 143, "stopped by SIGTERM")])
def test_a_signal_while_jax_is_at_work_ends_the_process(name, status, said):
    done = subprocess.run([sys.executable, "-c", TRACED, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "") and said in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_elsewhere_is_told_in_a_word(default_ctrl_c, capsys):
    assert exit_status(lambda: os.kill(os.getpid(), signal.SIGINT) or signal.pause()) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and capsys.readouterr().err == "stopped\n"


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before


def test_who_reads_the_output_may_stop_reading():
    code = ("from cfaan_jax.runtime.command import run_command; "
            "run_command(lambda: [print('long ' * 1000) for _ in range(1000)])")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        command.stdout.readline()
        command.stdout.close()
        assert command.wait() == 128 + signal.SIGPIPE and command.stderr.read() == b""

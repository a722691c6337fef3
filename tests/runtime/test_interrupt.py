"""What SIGTERM and Ctrl-C do."""

import os
import signal
import subprocess
import sys

import pytest

from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.interrupt import Interrupted, StopSignal


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_does_not_tear_the_work(signum):
    done = []
    with StopSignal() as stop:
        os.kill(os.getpid(), signum)
        done.append("the rest of the work")
        assert stop.received == signum
    assert done


def test_work_that_can_be_dropped_is_dropped_at_once():
    with StopSignal() as stop:
        with pytest.raises(Interrupted, match="SIGTERM") as raised, stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("went on")
        assert raised.value.signum == signal.SIGTERM
        with pytest.raises(Interrupted), stop.at_once():
            raise AssertionError("started after the signal")


def test_a_second_signal_acts_as_usual():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    signal.signal(signal.SIGINT, before)


TRACED = """
import os, signal, sys
import jax
from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.interrupt import StopSignal
signum = getattr(signal, sys.argv[1])

def traced(x):  # an exception raised here would pass through JAX, and through its callbacks when it compiles
    os.kill(os.getpid(), signum)
    for _ in range(1000):
        pass
    return x

def work():
    if signum == signal.SIGTERM:
        with StopSignal() as stop, stop.at_once():
            jax.jit(traced)(1.0)
    else:
        jax.jit(traced)(1.0)

signal.signal(signal.SIGINT, signal.default_int_handler)
exit_status(work)
print("went on")
"""


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_jax_is_at_work_ends_the_process(name, status):
    done = subprocess.run([sys.executable, "-c", TRACED, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "") and f"stopped by {name}" in done.stderr


def test_ctrl_c_elsewhere_is_told_in_a_word(capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    assert exit_status(lambda: os.kill(os.getpid(), signal.SIGINT) or signal.pause()) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and capsys.readouterr().err == "stopped\n"
    signal.signal(signal.SIGINT, before)


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

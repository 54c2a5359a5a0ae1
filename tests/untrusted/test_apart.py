"""The process apart: whatever a parser does there is an error here, and the next question is answered."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenrank as tr
from tokenrank.errors import InputError, MissingExtraError
from tokenrank.untrusted import apart

MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def testing() -> Iterator[None]:
    """A process that finds the misbehaving parser, and none left behind."""
    apart._end()
    sys.path.append(str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))
    apart._end()


def ask(question: str, **arguments: Any) -> Any:
    return apart.ask("testing", question, "'a.bin'", **arguments)


def refused(question: str) -> str:
    with pytest.raises(InputError) as error:
        ask(question)
    assert ask("well")[0]["words"] == ""  # the next one is answered
    return str(error.value)


def test_values_and_bytes_come_back():
    with tr.reading_budget(MIB):
        told, blobs = ask("well", words="λ\udcff", data=b"\0abc")
    assert (told["words"], told["limit"], blobs) == ("λ\udcff", MIB, [b"\0abc", b""])


def test_it_knows_neither_torch_nor_us():
    modules = ask("well")[0]["modules"]
    assert not {"torch", "tokenrank", "site"} & set(modules)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("question", ["crash", "abort", "leave"])
def test_its_end_is_an_error(question):
    assert "'a.bin' is broken: reading it ended the process that read it; fetch it again" in refused(question)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows keep no such limit")
def test_the_system_holds_it_to_the_budget():
    with tr.reading_budget(50 * MIB):
        assert "'a.bin' would take more than 50.0 MiB once read; if you trust it" in refused("swell")


def test_what_the_parser_has_counted_is_said():
    with tr.reading_budget(3 * MIB):
        assert "would take 6.0 MiB once read (two of everything), expected 3.0 MiB at most" in refused("count")


def test_an_answer_above_the_budget_is_not_taken():
    with tr.reading_budget(MIB):
        assert "ended the process" in refused("too_much")


def test_it_may_not_hang(monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", 0.5)
    begin = time.perf_counter()
    with pytest.raises(InputError, match=r"was not read within 0\.5 s"):
        ask("hang")
    assert time.perf_counter() - begin < 5
    assert ask("well")


def test_its_words_are_passed_on_in_one_line():
    with pytest.raises(apart.RefusedError, match=r"^it is not what it says$"):
        ask("refuse")


def test_what_libraries_print_gets_nowhere(capfd):
    assert ask("chatter") == (1, [])
    assert capfd.readouterr() == ("", "")


def test_it_is_one_process_until_it_ends():
    assert ask("process")[0] == ask("process")[0] != os.getpid()


def test_threads_take_turns():
    found = []

    def run(number: int) -> None:
        for _ in range(20):
            found.append(ask("well", words=str(number))[0]["words"] == str(number))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_starts_its_own():
    mine = ask("process")[0]
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(ask("process")[0]).encode())
            apart._end()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        theirs = int(answer.read())
    os.waitpid(child, 0)
    assert theirs != mine
    assert ask("process")[0] == mine


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_ends_with_this_process_however_that_ends():
    script = (
        f"import sys, os; sys.path.append({str(Path(__file__).parent)!r})\n"
        "from tokenrank.untrusted import apart\n"
        "print(apart.ask('testing', 'process', 'x')[0], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    number = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_interrupted_it_starts_anew():
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        pytest.skip("no timer")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            ask("hang")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ask("well", words="again")[0]["words"] == "again"


def test_a_frozen_program_is_told(monkeypatch):
    apart._end()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(InputError, match="frozen into one executable"):
        ask("well")


@pytest.mark.parametrize("module", ["no_such_module_at_all", "json"])
def test_what_is_not_installed_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(MissingExtraError, match=rf"{module} cannot be imported .*pip install 'tokenrank\[audio\]'"):
        apart.installed(module, "audio")


def test_errors_are_pickled():
    with pytest.raises(InputError) as error:
        ask("refuse")
    assert str(pickle.loads(pickle.dumps(error.value))) == "it is not what it says"

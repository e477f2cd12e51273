from __future__ import annotations

import subprocess
import sys

import psutil

from dev.processes import find_processes, read_title, run_child

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
input()
"""


def test_an_orphan_is_found_by_the_session_of_its_parent() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with run_child([sys.executable, "-c", PARENT], start_new_session=True, **pipes) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        assert {process.pid for process in find_processes({parent.pid})} == {parent.pid, orphan.pid}
    try:
        assert find_processes({parent.pid}) == [orphan]
    finally:
        orphan.kill()


def test_a_title_is_the_command_line_until_the_process_has_ended() -> None:
    with run_child([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        assert read_title(process).endswith("-c input()")
    assert read_title(process) == ""

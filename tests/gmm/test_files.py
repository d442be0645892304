"""Files appear whole or not at all."""

import errno
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmm import files
from gmm.files import write_aside, write_whole


def test_a_file_appears_when_the_writer_is_done(tmp_path):
    target = tmp_path / "deep" / "result.txt"
    with write_aside(target) as aside:
        aside.write_text("all of it")
        assert aside.parent == target.parent  # a rename is atomic within one file system only
        assert aside.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "result.txt"
    target.write_text("old")

    def write_half():
        with write_aside(target) as aside:
            aside.write_text("ha")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    message = (
        "cannot write .*result.txt: No space left on device; free some space and run the same command again"
    )

    def write_half():
        with write_aside(target) as aside:
            aside.write_text("ha")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ValueError, match=message):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_files_of_dead_processes_go(tmp_path):
    code = (
        "import os, sys; from gmm.files import write_aside\n"
        "with write_aside(sys.argv[1]) as aside: print(aside, flush=True); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "result.txt"
    out = subprocess.run(
        [sys.executable, "-c", code, target], capture_output=True, text=True, check=False
    ).stdout
    abandoned = Path(out.strip())
    assert abandoned.exists()
    files._remove_abandoned.cache_clear()
    with write_aside(target) as mine:
        assert abandoned.exists()  # it might be that of a process that has just begun
        for aside in (abandoned, mine):
            os.utime(aside, (1, 1))
        files._remove_abandoned.cache_clear()
        write_whole(tmp_path / "other", b"")
        assert not abandoned.exists()
        assert mine.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "result.txt"]


def test_results_get_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with write_aside(tmp_path / "aside") as aside:
        aside.write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "aside")}
    assert len(modes) == 1


def test_relative_targets_stay_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with write_aside("result.txt") as aside:
        aside.write_text("here")
    assert (tmp_path / "result.txt").read_text() == "here"


def test_a_folder_is_no_file(tmp_path):
    message = "cannot write .*: it is a folder; name a file in it"
    with pytest.raises(ValueError, match=message), write_aside(tmp_path):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    message = "cannot write .*result.txt: .*; name a folder you can write"
    with pytest.raises(ValueError, match=message), write_aside(tmp_path / "file" / "result.txt"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"cannot write .*Permission denied"), write_aside(tmp_path / "x"):
        pass
    tmp_path.chmod(0o700)


def test_only_one_process_works_in_a_folder(tmp_path):
    folder, log, done = tmp_path / "parts", tmp_path / "log", tmp_path / "done"
    code = (
        "import sys, time, warnings; from pathlib import Path; from gmm.files import alone_in\n"
        "warnings.simplefilter('always')\n"
        "with alone_in(Path(sys.argv[1])):\n"
        "    with open(sys.argv[2], 'a') as log: log.write('in\\n')\n"
        "    while not Path(sys.argv[3]).exists(): time.sleep(0.01)\n"
        "    with open(sys.argv[2], 'a') as log: log.write('out\\n')\n"
    )
    command = [sys.executable, "-c", code, folder, log, done]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not log.exists():
        time.sleep(0.01)
    others = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    waiting = [process.stderr.readline() for process in others]
    done.touch()
    for process in (first, *others):
        process.communicate()
    assert log.read_text() == "in\nout\n" * 3
    for line in waiting:
        assert re.search(rf"process {first.pid} on .* is at work in {folder}; waiting until it is done", line)
    assert not folder.exists() or not any(folder.iterdir())


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from gmm.files import alone_in\n"
        "with alone_in(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert (tmp_path / files.LOCK).exists()
    with files.alone_in(tmp_path):
        assert (tmp_path / files.LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []

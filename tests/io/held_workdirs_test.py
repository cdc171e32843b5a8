"""One process at a time writes a workdir."""

import os
import pathlib
import signal
import subprocess
import sys

import filelock
import pytest

from metapers.io import workdirs

HOLD = (
  'import sys, time; from metapers.io import workdirs\n'
  'with workdirs.holding(sys.argv[1]): print("held", flush=True); time.sleep(60)'
)


@pytest.fixture
def other(tmp_path):
  """Another process that holds a workdir, and its workdir."""
  workdir = tmp_path / 'runs' / 'mine'
  program = subprocess.Popen([sys.executable, '-c', HOLD, workdir], stdout=subprocess.PIPE)
  assert program.stdout.readline() == b'held\n'
  yield program, workdir
  program.kill()
  program.wait()
  program.stdout.close()


def test_a_second_process_is_told_who_holds_it_and_a_kill_lets_go(other):
  program, workdir = other
  with pytest.raises(ValueError, match=f'written by process {program.pid} on .*, since 20'):
    with workdirs.holding(workdir):
      pass
  program.send_signal(signal.SIGKILL)
  program.wait()
  with workdirs.holding(workdir):
    assert workdirs.claim(workdir, {'a': 1}) == {'a': 1}


def test_whoever_waits_goes_on_when_the_other_ends(other):
  program, workdir = other
  code = HOLD.replace('(sys.argv[1])', '(sys.argv[1], waits=True)')
  waiting = subprocess.Popen([sys.executable, '-c', code, workdir], stdout=subprocess.PIPE)
  os.set_blocking(waiting.stdout.fileno(), False)
  try:
    assert not waiting.stdout.read()
    program.kill()
    program.wait()
    os.set_blocking(waiting.stdout.fileno(), True)
    assert waiting.stdout.readline() == b'held\n'
  finally:
    waiting.kill()
    waiting.wait()
    waiting.stdout.close()


def test_the_same_process_may_hold_it_again(tmp_path):
  with workdirs.holding(tmp_path / 'a'), workdirs.holding(tmp_path / 'a'):
    workdirs.claim(tmp_path / 'a', {'b': 1})
  assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == ['.lock', 'config.json']


def test_what_is_refused_leaves_neither_a_workdir_nor_its_parents(tmp_path):
  with pytest.raises(ValueError, match='no'), workdirs.holding(tmp_path / 'a' / 'b'):
    raise ValueError('no')
  assert not (tmp_path / 'a').exists()
  (tmp_path / 'mine').mkdir()
  with workdirs.holding(tmp_path / 'mine'):
    pass
  assert (tmp_path / 'mine').is_dir()


def test_a_workdir_is_removed_while_it_is_held(tmp_path, monkeypatch):
  removed, unlink = [], pathlib.Path.unlink

  def told(path, **options):
    if path.name == workdirs.LOCK:
      removed.append(filelock.FileLock(path.absolute(), is_singleton=True).is_locked)
    unlink(path, **options)

  monkeypatch.setattr(pathlib.Path, 'unlink', told)
  with workdirs.holding(tmp_path / 'a'):
    pass
  assert removed == [True]


def test_a_workdir_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
  acquire = filelock.FileLock.acquire

  def late(lock, **options):
    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    (tmp_path / 'a').rmdir()
    return acquire(lock, **options)

  monkeypatch.setattr(filelock.FileLock, 'acquire', late)
  with workdirs.holding(tmp_path / 'a'):
    workdirs.claim(tmp_path / 'a', {'b': 1})
  assert workdirs.read_config(tmp_path / 'a') == {'b': 1}

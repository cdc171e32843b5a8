"""What is shown of jobs: a table on a terminal, lines elsewhere, the end of a log."""

import io
import pathlib

import pytest

from launchers import board, pool, records
from launchers.jobs import Job
from launchers.pool import Progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def made(tmp_path):
  return [
    Progress(Job('fake_job', 'config.py', {'seed': str(seed)}, (), tmp_path)) for seed in range(3)
  ]


def begin(one, said=''):
  one.state, one.attempt = pool.RUNNING, one.attempt + 1
  path = records.log_of(one.job)
  path.parent.mkdir(exist_ok=True)
  path.write_text(said)


def test_elsewhere_each_change_is_one_line(made):
  stream = io.StringIO()
  shown = board.Board(stream)
  shown.show(made)
  begin(made[0])
  shown.show(made)
  shown.show(made)
  made[0].state, made[0].code, made[0].seconds = pool.FAILED, 3, 2.4
  shown.show(made)
  name = made[0].job.name
  assert stream.getvalue() == f'{name}  running 0 s\n{name}  failed with 3 2 s\n'


def test_on_a_terminal_the_table_is_drawn_over_itself(made, monkeypatch):
  monkeypatch.setenv('COLUMNS', '60')
  stream = Terminal()
  shown = board.Board(stream)
  begin(made[0], 'first\n\x1b[31mlast words of this job, which are long\x1b[0m\n')
  shown.show(made)
  begin(made[1], '')
  shown.show(made)
  first, second = stream.getvalue().split(board.CLEAR)[1:]
  assert first.splitlines()[0] == '1 running, 2 waiting, of 3'
  assert 'running 0 s   last words' in first and '\x1b[31m' not in first
  assert second.splitlines()[0] == '2 running, 1 waiting, of 3'
  assert first.endswith(f'\n\r{board.UP.format(2)}')
  assert all(len(line) < 60 for line in second.splitlines())


def test_a_bar_that_draws_over_itself_has_a_last_line(tmp_path):
  path = tmp_path / 'log'
  path.write_bytes(b'begun\n 10%|#\r 90%|######\n\n')
  assert board.last_lines(path, 2) == [' 10%|#', ' 90%|######']
  path.write_bytes(b'x' * 10_000 + b'\nthe end\n')
  assert board.last_lines(path, 1) == ['the end']
  assert board.last_lines(pathlib.Path('nowhere'), 1) == []

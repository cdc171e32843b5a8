"""What befalls a command is said in one line."""

import errno
import logging

import pytest

from experiments import commands


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EDQUOT, 'Disk quota exceeded'),
    ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [os_error_code='28']"),
    RuntimeError('writing failed: No space left on device'),
  ],
  ids=['disk', 'quota', 'in C++', 'another type'],
)
def test_a_full_disk_is_one_line(error, monkeypatch, capsys):
  def main(argv):
    raise error

  monkeypatch.setattr(commands.app, 'run', lambda guarded, flags_parser: guarded([]))
  with pytest.raises(SystemExit) as caught:
    commands.run(main)
  said = capsys.readouterr().err
  assert caught.value.code == 2
  assert said.count('\n') == 1 and 'no space is left on the disk' in said


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (ValueError('no such learner'), 2),
    (FileNotFoundError(errno.ENOENT, 'No such file'), 2),
    (ConnectionResetError('the endpoint is away'), 1),
    (TimeoutError('too long'), 1),
    (OSError(errno.ESTALE, 'Stale file handle'), 1),
  ],
)
def test_what_may_pass_by_itself_is_told_by_the_exit_code(error, code, capsys):
  with pytest.raises(SystemExit) as caught:
    commands.fail(error)
  assert caught.value.code == code and capsys.readouterr().err.startswith('error: ')


def test_what_threads_say_of_a_full_disk_is_not_repeated():
  def record(message, error=None):
    trace = (type(error), error, None) if error else None
    return logging.LogRecord('absl', logging.ERROR, '', 1, message, (), trace)

  assert commands._is_news(record('a checkpoint is damaged', ValueError('cut short')))
  assert not commands._is_news(record('a thread failed', OSError(errno.ENOSPC, 'full')))
  assert not commands._is_news(record('raised No space left on device'))

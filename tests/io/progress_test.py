"""What is shown of work under way goes to stderr, and says how long programs were compiled."""

import re
import sys

import jax
import jax.numpy as jnp
import pytest

from metapers.io import progress


@pytest.fixture(autouse=True)
def any_seconds(monkeypatch):
  monkeypatch.setattr(progress, 'LEAST_SECONDS', 1e-9)


def compile_anew():
  return jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3))  # another function at each call


def said(capsys):
  out, err = capsys.readouterr()
  assert not out
  return re.sub(r'\d+\.\d s', 'T', err).split('\n')[:-1]


def test_what_was_compiled_is_said_with_seconds_and_what_was_not_is_not(capsys):
  known = jax.jit(lambda x: x * 3)
  with progress.compiling('first'):
    known(1.0)
  with progress.compiling('second'):
    known(2.0)
  assert said(capsys) == ['first: compiled in T']


def test_what_is_compiled_within_counts_there_alone(capsys):
  with progress.compiling('outer'):
    with progress.compiling('inner'):
      compile_anew()
  assert said(capsys) == ['inner: compiled in T']
  with progress.compiling('outer'):
    with progress.compiling('inner', shown=False):
      compile_anew()
    compile_anew()
  assert said(capsys) == ['outer: compiled in T']


def test_an_error_ends_the_listening(capsys):
  with pytest.raises(ValueError, match='mine'), progress.compiling('first'):
    raise ValueError('mine')
  compile_anew()
  assert not progress._open
  assert said(capsys) == []


def test_spans_that_lie_in_each_other_count_once():
  assert progress.covered([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (7.0, 8.0)]) == 6
  assert progress.covered([]) == 0


def test_a_bar_shows_what_is_in_work_and_leaves_nothing(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  assert list(progress.along(['a', 'b'], 'cells', unit='cell', label=str.upper)) == ['a', 'b']
  err = capsys.readouterr().err
  assert 'cells:   0%' in err
  assert '0/2' in err and ', A]' in err
  assert err.split('\r')[-1].strip() == ''
  assert list(progress.along(['a'], 'cells', unit='cell', shown=False)) == ['a']
  assert not capsys.readouterr().err


def test_where_there_is_no_terminal_bars_are_lines_and_few(capsys, monkeypatch):
  def nested():
    for _ in progress.along(['a', 'b'], 'cells', unit='cell'):
      for _ in progress.along(range(3), 'steps', unit='step'):
        progress.say('between')

  nested()
  lines = capsys.readouterr().err.split('\n')
  assert not any('\r' in line or '\x1b' in line for line in lines)
  assert [line[:11] for line in lines if line != 'between'] == [
    'cells: 0/2 ', 'steps: 0/3 ', 'steps: 0/3 ', ''
  ]  # fmt: skip
  monkeypatch.setattr(progress, 'EVERY', 0.0)
  nested()
  assert 'steps: 2/3 steps [' in capsys.readouterr().err

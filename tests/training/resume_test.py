"""Interrupted at any moment, a run ends as if nothing had happened."""

import random
import re
import signal
import time

import pytest
import small_runs

from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter, read_metrics
from metapers.training import loop


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted')
  return small_runs.pooled(workdir), metrics(workdir)


def metrics(workdir):
  return (workdir / 'metrics.jsonl').read_bytes()


def test_the_best_is_neither_the_first_nor_the_last(uninterrupted):
  result, _ = uninterrupted
  assert result.best_step == small_runs.BEST_STEP
  assert not small_runs.same_bits(result.params, result.best_params)


def test_killed_three_times_it_ends_with_the_same_bits(tmp_path, uninterrupted):
  seed = random.randrange(2**32)
  print('seed of the moments:', seed)
  for moment in random.Random(seed).choices([i / 100 for i in range(50)], k=3):
    process = small_runs.start(tmp_path)
    time.sleep(moment)
    assert small_runs.end(process, signal.SIGKILL) == -signal.SIGKILL
  assert small_runs.same_bits((small_runs.pooled(tmp_path), metrics(tmp_path)), uninterrupted)


def test_sigterm_saves_and_exits_with_143(tmp_path, uninterrupted):
  process = small_runs.start(tmp_path)
  assert small_runs.end(process, signal.SIGTERM) == 143
  steps = [row['step'] for row in read_metrics(tmp_path)]
  newest = max(int(name) for name in small_runs.saves(tmp_path))
  assert 0 < newest == max(steps) < small_runs.SCHEDULE.num_steps
  assert small_runs.same_bits((small_runs.pooled(tmp_path), metrics(tmp_path)), uninterrupted)


def point(workdir, num_steps):
  schedule = loop.Schedule(num_steps, 4, 6)
  checkpoints = Checkpoints(workdir, small_runs.config(schedule))
  writer = lambda start: MetricsWriter(workdir, from_step=start)  # noqa: E731
  try:
    return small_runs.point(schedule, checkpoints=checkpoints, writer=writer)
  finally:
    checkpoints.close()


def test_a_finished_run_is_not_trained_again(tmp_path):
  first, written = point(tmp_path, 9), metrics(tmp_path)
  assert small_runs.same_bits(first, point(tmp_path, 9))
  assert metrics(tmp_path) == written


def test_more_steps_extend_a_run(tmp_path):
  point(tmp_path / 'twice', 9)
  extended, whole = point(tmp_path / 'twice', 20), point(tmp_path / 'once', 20)
  assert small_runs.same_bits(extended, whole)


def test_fewer_steps_are_refused(tmp_path):
  point(tmp_path, 6)
  with pytest.raises(ValueError, match=r'training.num_steps: 6 there, 3 now .*not shortened'):
    point(tmp_path, 3)


def test_saving_changes_nothing(tmp_path):
  assert small_runs.same_bits(point(tmp_path, 9), small_runs.point(loop.Schedule(9)))


def test_a_resumed_run_says_from_which_step_and_what_is_compiled(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('metapers.io.progress.LEAST_SECONDS', 0)

  def fit(num_steps):
    checkpoints = Checkpoints(tmp_path, {})
    schedule = loop.Schedule(num_steps, steps_per_call=2)
    score = {'evaluate': lambda params, step: {'score': step}}
    small_runs.point(schedule, checkpoints=checkpoints, progress=True, **score)
    checkpoints.close()
    return capsys.readouterr().err

  first, second, third = fit(4), fit(8), fit(8)
  assert 'goes on' not in first
  assert re.search(r'point: training: compiled in \d+\.\d s', first)
  assert re.search(r'point: evaluation: compiled in \d+\.\d s', first)
  assert 'point: goes on from step 4 of 8' in second
  assert 'goes on' not in third

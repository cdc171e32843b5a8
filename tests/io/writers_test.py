import json
import math

import pytest

from metapers.io import writers


def write(workdir, steps, from_step=None):
  writer = writers.MetricsWriter(workdir, from_step=from_step)
  for step in steps:
    writer.write(step, {'loss': 0.1 * step + 0.2})
  writer.close()


def steps(workdir):
  return [row['step'] for row in writers.read_metrics(workdir)]


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path):
  write(tmp_path, [1, 2, 3])
  assert writers.read_metrics(tmp_path) == [
    {'step': step, 'loss': 0.1 * step + 0.2} for step in (1, 2, 3)
  ]


def test_a_line_is_on_disk_before_the_writer_is_closed(tmp_path):
  writer = writers.MetricsWriter(tmp_path)
  writer.write(5, {'loss': 1.0})
  assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == {'step': 5, 'loss': 1.0}
  writer.close()


def test_steps_after_the_one_resumed_from_are_dropped_and_the_others_keep_their_bytes(tmp_path):
  write(tmp_path, [2, 4, 4])
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  write(tmp_path, [6, 8], from_step=4)
  write(tmp_path, [], from_step=4)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_a_run_that_starts_anew_drops_what_was_written_even_of_step_0(tmp_path):
  write(tmp_path, [0, 2])
  write(tmp_path, [0], from_step=None)
  assert steps(tmp_path) == [0]


@pytest.mark.parametrize('torn', ['{"st', '{"step": 12', '{"step": 6, "loss": 1.0}'])
def test_a_last_line_that_was_cut_short_is_dropped(tmp_path, torn):
  write(tmp_path, [2, 4])
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(torn)
  assert steps(tmp_path) == [2, 4]
  write(tmp_path, [6], from_step=4)
  assert steps(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(tmp_path, value):
  writer = writers.MetricsWriter(tmp_path)
  writer.write(1, {'loss': value, 'accuracy': 0.5})
  writer.close()
  assert writers.read_metrics(tmp_path) == [{'step': 1, 'loss': None, 'accuracy': 0.5}]
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  write(tmp_path, [], from_step=1)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_a_workdir_without_metrics_has_none(tmp_path):
  assert writers.read_metrics(tmp_path / 'nowhere') == []


def test_tensorboard_gets_events(tmp_path):
  write(tmp_path, [1])
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'loss' in events.read_bytes()


@pytest.mark.parametrize('line', ['{"step": "one"}', '{}', '[' * 10**5, 'null'])
def test_a_row_of_something_else_is_named(tmp_path, line):
  (tmp_path / 'metrics.jsonl').write_text(line + '\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl, line 1'):
    writers.MetricsWriter(tmp_path, from_step=1)

"""The command from a model that is trained here to steered answers, as a user types it."""

import pandas as pd
import pytest
from forks import command

from metapers.bench import results

CONFIG = '--config=experiments/configs/steer_styles.py:quick'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('steer')
  done = command('steer', CONFIG, f'--workdir={folder}')
  assert done.returncode == 0, done.stderr
  return done, results.read_results(folder / 'results.csv'), folder


def value(frame, learner, metric):
  (found,) = frame[(frame['learner'] == learner) & (frame['metric'] == metric)]['value']
  return found


def test_weights_that_explain_choices_steer_answers_to_what_users_like(run):
  done, frame, _ = run
  assert value(frame, 'base', 'kl') == pytest.approx(0, abs=1e-4)
  base, steered = (value(frame, name, 'utility') for name in ('base', 'gaussian_prior 2'))
  assert steered > base + 0.3
  assert value(frame, 'true weights 2', 'utility') > base + 0.5
  assert value(frame, 'gaussian_prior 2', 'kl') > value(frame, 'gaussian_prior 1', 'kl') > 0
  assert value(frame, 'gaussian_prior 1', 'accuracy@policy') > 0.55
  assert 'in context' in set(frame['learner'])
  assert 'validation users chose' in done.stdout and 'prompts move answers' in done.stdout


def test_utility_grows_with_n_and_stays_below_the_oracle(run):
  _, frame, _ = run
  for metric in ('utility@best_of_4', 'utility@best_of_8'):
    one = value(frame, 'gaussian_prior', 'utility@best_of_1')
    assert one < value(frame, 'gaussian_prior', metric)
    assert value(frame, 'gaussian_prior', metric) < value(frame, 'best of n oracle', metric)


def test_questions_end_before_all_are_asked(run):
  _, frame, _ = run
  asked = value(frame, 'gaussian_prior top_two', 'questions@best_arm')
  assert 0 <= asked <= 6
  assert pd.notna(value(frame, 'gaussian_prior knowledge_gradient', 'regret@best_arm'))


def test_mistakes_are_one_line(run):
  folder = run[2]
  for wrong, message in [
    ('--config.features=("squared",)', 'features must be one of'),
    ('--config.audit.num_answers=0', 'num_answers'),
  ]:
    done = command('steer', CONFIG, f'--workdir={folder}', wrong)
    assert done.returncode == 2 and message in done.stderr, done.stderr

"""The report on made-up learners whose leads are known, and the command from end to end."""

import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from ml_collections import config_dict

from experiments import asking_report
from experiments.configs import asking as config_of_asking
from metapers.bench import results
from metapers.evaluation.acquisition import RULES

ROOT = pathlib.Path(__file__).parents[2]
MOST, AFTER, RESAMPLES = 8, 2, 60
CONFIG = '--config=experiments/configs/asking.py:quick'
TINY = (
  '--config.training.num_steps=4',
  '--config.training.steps_per_call=2',
  '--config.training.evaluate_every=2',
  '--config.training.batch_size=8',
  '--config.training.chunk_size=8',
  '--config.evaluation.num_users=6',
  '--config.evaluation.num_validation_users=6',
  '--config.evaluation.num_particles=20',
  '--config.evaluation.num_resamples=20',
  '--config.population.kwargs.num_held_out=6',
  '--config.population.kwargs.num_slates=2',
  '--config.asking.num_queries=4',
)


def made_up_config():
  return config_dict.ConfigDict(
    {
      'protocol': 'asking',
      'seed': 0,
      'benchmark': {'learners': ('able',)},
      'evaluation': {'shots': (0, 2, 8)},
      'asking': {'compared_after': AFTER, 'num_questions': MOST, 'pool_size': 9},
    }
  )


def made_up_users():
  population = types.SimpleNamespace(record={'source': 'made up'})
  return types.SimpleNamespace(
    title='users',
    labels={'protocol': 'asking', 'split': 'test'},
    shots=tuple(range(MOST + 1)),
    populations=(population,),
    evaluated=types.SimpleNamespace(num_users=5),
    stream=None,
  )


def curve(speed, spread=0.0):
  """Accuracy that rises by `speed` points a question, in resamples that lie `spread` apart."""
  speeds = np.r_[speed, np.linspace(speed - spread, speed + spread, RESAMPLES)]
  accuracy = 0.5 + 0.01 * np.outer(speeds, np.arange(MOST + 1))
  return {'accuracy': accuracy, 'regret': 1 - accuracy, 'nll': 2 - accuracy}


def judged(speed, spread=0.0):
  return {
    rule: curve(1.0 if rule == 'random' else speed, spread * (rule != 'random')) for rule in RULES
  }


FOUND = {'bayes': judged(9.0), 'able': judged(2.0, 0.4), 'unsure': judged(1.5, 1.0)}


@pytest.fixture(scope='module')
def rows():
  config, users = made_up_config(), made_up_users()
  return [
    row
    for name, found in FOUND.items()
    for row in asking_report.rows_of(users, name, found, config)
  ]


def test_rows_tell_learner_and_rule_and_the_lead_over_random(rows):
  (lead,) = results.select(rows, learner='able bald', metric=asking_report.LEAD)
  assert lead.shots == str(AFTER)
  np.testing.assert_allclose(
    [lead.value, lead.ci_low, lead.ci_high], [2, 1.24, 2.76], atol=1e-6
  )  # speed 2 ± 0.38: random needs 2 (speed) questions
  (gain,) = results.select(rows, learner='able bald', metric='accuracy_minus_random', shots=8)
  np.testing.assert_allclose(gain.value, 0.08)
  assert not results.select(rows, learner='able random', metric=asking_report.LEAD)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('able', 'random questions reach after 4.0. That saves 2.0 (1.2 to 2.8) questions'),
    ('able', 'which is significant.'),
    ('unsure', 'which is not significant.'),
    ('bayes', 'random questions reach after at least 8.0. That saves ≥ 6.0 (≥ 6.0 to ≥ 6.0)'),
  ],
)
def test_the_statement_gives_the_lead_and_whether_it_is_one(rows, name, expected):
  assert expected in asking_report.statement(rows, name, 'bald', made_up_config())


def test_everything_is_written(tmp_path, capsys):
  chosen = dict.fromkeys(FOUND, 'epig')
  asking_report.write(made_up_config(), tmp_path, made_up_users(), FOUND, chosen)
  assert 'able: epig, the best rule on validation users' in capsys.readouterr().out
  assert (tmp_path / 'asking.png').stat().st_size > 10_000
  page = (tmp_path / 'report.html').read_text()
  for part in ('What a good question saves', 'able asks users, pools of 9', 'bayes epig', '≥ 6.0'):
    assert part in page
  learners = {row.learner for row in results.read(tmp_path / 'results.csv')}
  assert learners == {f'{name} {rule}' for name in FOUND for rule in RULES}


def test_curves_of_a_learner_stand_beside_bayes_asked_likewise(rows):
  chosen = dict.fromkeys(FOUND, 'epig')
  drawn = asking_report.figure(rows, 'able', chosen, made_up_users(), made_up_config())
  named = {text.get_text().strip() for text in drawn.axes[0].texts}
  assert named == {*RULES, 'bayes epig', 'bayes random'}


def test_a_quick_config_asks_fewer_questions_than_the_pool_holds():
  for argument in ('', 'quick'):
    part = config_of_asking.get_config(argument).asking
    assert part.compared_after < part.num_questions < part.pool_size


def command(workdir, *arguments, config=CONFIG):
  made = [sys.executable, '-m', 'experiments.ask', config, f'--workdir={workdir}', *arguments]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(
    made, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
  )


@pytest.mark.slow
def test_the_command_asks_everyone_and_goes_on_where_it_stood(tmp_path):
  first = command(tmp_path / 'asked', *TINY)
  assert first.returncode == 0, first.stderr
  written = results.read(tmp_path / 'asked' / 'results.csv')
  assert {row.learner for row in written} == {
    f'{name} {rule}' for name in ('bayes', 'bayes_head') for rule in RULES
  }
  assert {row.shots for row in results.select(written, metric='accuracy')} == set(
    map(str, range(17))
  )
  again = command(tmp_path / 'asked', *TINY)
  assert again.returncode == 0, again.stderr
  assert 'asks test users' not in again.stdout
  assert results.read(tmp_path / 'asked' / 'results.csv') == written


@pytest.mark.slow
@pytest.mark.parametrize(
  ('config', 'arguments', 'message'),
  [
    ('--config=experiments/configs/quickstart.py', (), 'this config asks nobody'),
    (CONFIG, ('--config.population.kwargs.pair_rule=extreme',), 'do not depend on the taste'),
  ],
)
def test_who_cannot_be_asked_is_refused(tmp_path, config, arguments, message):
  refused = command(tmp_path / 'asked', *arguments, config=config)
  assert refused.returncode == 2
  assert message in refused.stderr
  assert 'Traceback' not in refused.stderr

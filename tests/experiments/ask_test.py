"""The command of active querying, as a user types it."""

import forks
import pytest

from experiments.configs import asking
from metapers.bench import results
from metapers.evaluation.acquisition import RULES

CONFIG = '--config=experiments/configs/asking.py:quick'
TINY = (
  *forks.TINY,
  '--config.evaluation.shots=(0, 1, 3)',
  '--config.evaluation.num_validation_users=6',
  '--config.population.kwargs.num_slates=2',
  '--config.asking.num_queries=4',
  '--config.asking.num_questions=3',
  '--config.asking.compared_after=1',
)


def command(workdir, *arguments, config=CONFIG):
  return forks.command('ask', config, f'--workdir={workdir}', *arguments)


@pytest.mark.parametrize('argument', ['', 'quick'])
def test_the_config_asks_fewer_questions_than_the_pool_holds(argument):
  part = asking.get_config(argument).asking
  assert 0 < part.compared_after < part.num_questions < part.pool_size


@pytest.mark.slow
def test_everyone_is_asked_and_what_is_written_is_named(tmp_path):
  done = command(tmp_path / 'asked', *TINY, '--config.asking.exact=False')
  assert done.returncode == 0, done.stderr
  assert 'the best rule on validation users' in done.stdout
  for name in ('results.csv', 'asking.png', 'report.html'):
    assert str(tmp_path / 'asked' / name) in done.stdout
  frame = results.read_results(tmp_path / 'asked' / 'results.csv')
  assert set(frame['learner']) == {f'bayes_head {rule}' for rule in RULES}
  assert set(frame['protocol']) == {'asking'}


@pytest.mark.parametrize(
  ('config', 'arguments', 'message'),
  [
    ('--config=experiments/configs/quickstart.py', (), 'this config asks nobody'),
    (CONFIG, ('--config.population.kwargs.pair_rule=extreme', *TINY), 'do not depend on the user'),
  ],
)
def test_mistakes_are_one_line(tmp_path, config, arguments, message):
  refused = command(tmp_path / 'asked', *arguments, config=config)
  assert refused.returncode == 2
  assert message in refused.stderr
  assert 'Traceback' not in refused.stderr

"""The command that looks for leaks, as a user types it."""

import numpy as np
import pandas as pd
import pytest
from forks import command

CONFIGS = '--config=experiments/configs'


@pytest.fixture
def folder(tmp_path):
  """Forty people who chose among replies of their own."""
  rng = np.random.default_rng(0)
  size = 40 * 10 * 2
  items = pd.DataFrame(
    {
      'item_id': range(size),
      'context': np.arange(size) // 10,
      'text': [f'{"so " * count}it goes.' for count in rng.integers(1, 30, size)],
      'quality': rng.standard_normal(size),
    }
  )
  pairs = rng.permuted(np.arange(size).reshape(-1, 2), axis=1)
  comparisons = pd.DataFrame(pairs, columns=['chosen', 'rejected'])
  comparisons['user_id'] = np.arange(len(pairs)) // 10
  items.to_csv(tmp_path / 'items.csv', index=False)
  comparisons.to_csv(tmp_path / 'comparisons.csv', index=False)
  return tmp_path


def of_people(folder, num_support=4):
  where = f'--config.population.kwargs.path={folder}'
  sizes = (
    f'--config.population.kwargs.num_support={num_support}',
    f'--config.evaluation.shots=(0, {num_support})',
  )
  return (
    f'{CONFIGS}/jester.py:quick', where, *sizes,
    '--config.population.kwargs.complete_raters_only=False',
  )  # fmt: skip


@pytest.mark.slow
def test_simulated_users_have_none():
  done = command('leaks', f'{CONFIGS}/scores_gap.py:quick')
  assert done.returncode == 0, done.stderr
  for kind in ('users', 'prompts', 'cues', 'selection'):
    assert f'  ok    {kind}: ' in done.stdout
  assert 'LEAK' not in done.stdout


def test_people_have_none_and_each_check_is_named(folder):
  done = command('leaks', *of_people(folder))
  assert done.returncode == 0, done.stderr
  for kind in ('people', 'pairs', 'cues', 'selection', 'texts'):
    assert f'  ok    {kind}: ' in done.stdout


def with_lists(folder):
  """Writes the rejected texts of a folder as LoRe's were: as lists."""
  items = pd.read_csv(folder / 'items.csv')
  rejected = pd.read_csv(folder / 'comparisons.csv')['rejected']
  items.loc[rejected, 'text'] = [str([text, text]) for text in items.loc[rejected, 'text']]
  items.to_csv(folder / 'items.csv', index=False)


def test_leaks_are_named_and_are_an_exit_code(folder):
  with_lists(folder)
  done = command('leaks', *of_people(folder), '--conversations')
  assert done.returncode == 1, done.stderr
  assert '  LEAK  texts: marks of a list reveals the chosen text' in done.stdout
  assert '  LEAK  conversations: ' in done.stdout
  assert '  ok    people: ' in done.stdout


@pytest.mark.parametrize('name', ['benchmark', 'train'])
def test_texts_that_leak_are_trained_on_nowhere(folder, tmp_path, name):
  with_lists(folder)
  config, *others = of_people(folder)
  config += ',learner=cnp' if name == 'train' else ''
  failed = command(name, config, *others, f'--workdir={tmp_path}/made')
  assert failed.returncode == 2
  assert 'error: leak of texts: marks of a list reveals the chosen text' in failed.stderr
  assert 'leaks of conversations were not looked for: nobody says' in failed.stdout
  assert not (tmp_path / 'made').exists()


def test_what_could_not_be_looked_for_is_said(folder):
  items = pd.read_csv(folder / 'items.csv').drop(columns='text')
  items.to_csv(folder / 'items.csv', index=False)
  done = command('leaks', *of_people(folder))
  assert done.returncode == 0, done.stderr
  assert '  --    texts: not looked for, the items have no texts\n' in done.stdout
  assert '  --    conversations: not looked for, nobody says whether' in done.stdout


def test_nothing_is_trained_on_people_of_two_sides(folder, tmp_path):
  comparisons = pd.read_csv(folder / 'comparisons.csv')
  again = np.where(comparisons.index % 2, ' ', '')  # half of everyone's, under an id that looks so
  comparisons['user_id'] = 'p' + comparisons['user_id'].astype(str) + again
  comparisons.to_csv(folder / 'comparisons.csv', index=False)
  failed = command('benchmark', *of_people(folder, num_support=2), f'--workdir={tmp_path}/table')
  assert failed.returncode == 2
  assert 'error: leak of people: ' in failed.stderr
  assert not (tmp_path / 'table' / 'runs').exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ((f'{CONFIGS}/jester.py:quick',), 'real people need a folder'),
    (
      (f'{CONFIGS}/scores_gap.py:quick', '--conversations'),
      'of items of real people, and here are none',
    ),
  ],
)
def test_mistakes_are_one_line(arguments, message):
  failed = command('leaks', *arguments)
  assert failed.returncode == 2
  [line] = [line for line in failed.stderr.splitlines() if line.startswith('error: ')]
  assert message in line

"""Workdirs that were run apart give the table that one workdir gives, and nothing is trained."""

import json
import pathlib
import shutil

import pandas as pd
import pytest
from forks import command

from experiments import build
from experiments import works as works_of
from experiments.configs import base, outcomes
from metapers.bench import gathering, results, runner

ROWS = {
  'bayes_head': {'kwargs': {'hidden': (8,), 'width': 4}},
  'pooled': {'kwargs': {'hidden': ()}},
}


def config(rows=tuple(ROWS), seeds=(0, 1), **changes):
  made = base.table(base.base(build.population_config('two_types')), ROWS, seeds=seeds)
  made.benchmark.learners = rows
  training = {'num_steps': 2, 'steps_per_call': 2, 'evaluate_every': 2, 'batch_size': 8}
  evaluation = {'num_users': 20, 'num_validation_users': 4, 'num_resamples': 50}
  evaluation |= {'shots': (0, 2), 'flips': True}
  build.update('training', made.training, training)
  build.update('evaluation', made.evaluation, evaluation | changes)
  return made


def run(workdir, made):
  result = runner.run(build.plan(made), workdir, log=lambda line: None)
  results.write_results(workdir / 'results.csv', result.frame)
  return result


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('gathered') / 'whole'
  return run(workdir, config()), workdir


@pytest.fixture(scope='module')
def root(whole):
  """Returns a folder of tables of one learner and seed each."""
  _, workdir = whole
  root = workdir.parent / 'root'
  for row in ROWS:
    for seed in (0, 1):
      part = shutil.copytree(workdir, root / f'{row}-{seed}')
      run(part, config((row,), (seed,)))
  return root


def works(root):
  return [works_of.of(folder, [], '') for folder in works_of.folders_in(root)]


def kept(frame):
  """Returns all numbers but those that were measured by a clock, in a fixed order."""
  own = frame[~frame['metric'].str.contains('_us')]
  return own.sort_values(list(results.CELL), ignore_index=True)


def test_tables_apart_give_the_table_of_one(whole, root, tmp_path):
  made = gathering.gather(works(root), tmp_path / 'out', log=lambda line: None)
  pd.testing.assert_frame_equal(kept(made.frame), kept(whole[0].frame), check_exact=True)
  assert made.verdict() == whole[0].verdict()


def test_runs_apart_give_the_table_of_one(whole, tmp_path):
  one, workdir = whole
  for folder in (workdir / 'runs').iterdir():
    (shutil.copytree(folder, tmp_path / 'root' / folder.name) / 'results.csv').touch()
  before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'root').rglob('*')}
  made = gathering.gather(works(tmp_path / 'root'), tmp_path / 'out', log=lambda line: None)
  pd.testing.assert_frame_equal(kept(made.frame), kept(one.frame), check_exact=True)
  assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'root').rglob('*')}


def stored_as(workdir, made):
  """Returns the workdir of a table of this config, of which nothing is made yet."""
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(build.identity(made)))
  return workdir


def test_a_table_whose_conditions_hold_several_values_is_read_as_it_was(tmp_path):
  made = outcomes.get_config('quick')
  names = [condition.name for condition in build.plan(made).conditions]
  assert any('(' in name for name in names)
  read = works_of.of(stored_as(tmp_path / 'table', made), [], '').plan
  assert [condition.name for condition in read.conditions] == names


def test_a_learner_from_a_file_is_a_row_without_its_folder(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('from metapers import learners\n\n\ndef mine(num_features):\n  pass\n')
  made = config((f'{path}:mine', 'pooled'))
  assert list(build.plan(made).entries) == ['mine.py:mine', 'pooled']
  workdir = stored_as(tmp_path / 'table', made)
  assert str(tmp_path) not in (workdir / 'config.json').read_text()
  found = works_of.of(workdir, [f'{path}:mine'], '')
  assert list(found.plan.entries) == ['mine.py:mine', 'pooled']
  assert found.plan.entries['mine.py:mine'].name == f'{path}:mine'
  with pytest.raises(ValueError, match='is from a file: give --learner'):
    works_of.of(workdir, [], '')


def test_a_learner_with_other_options_has_a_row_of_its_own(whole, root):
  own = works(root)
  changed = config(('bayes_head',), (0,))
  changed.training.learning_rate = 0.5
  other = own[0]._replace(plan=build.plan(changed))
  names = [name for names in gathering.names_of([*own, other]) for name in names.values()]
  usual = config().training.learning_rate
  assert names == [
    f'bayes_head learning_rate={usual}',
    f'bayes_head learning_rate={usual}',
    'pooled',
    'pooled',
    'bayes_head learning_rate=0.5',
  ]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'num_users': 30}, 'evaluation.num_users: 20 and 30'),
    ({'shots': (0, 4)}, r'evaluation.shots: \[0, 2\] and \[0, 4\]'),
  ],
)
def test_what_is_evaluated_otherwise_is_refused(root, changes, message):
  own = works(root)
  other = own[0]._replace(plan=build.plan(config(('bayes_head',), (0,), **changes)))
  with pytest.raises(ValueError, match=f'are not of one table .*{message}.*: gather them apart'):
    gathering.require_one_table([own[0], other])


def test_a_table_and_a_run_are_refused(root):
  first, second, *_ = works(root)
  with pytest.raises(ValueError, match='a table and a single run'):
    gathering.require_one_table([first, second._replace(is_table=False)])


def test_the_command_names_what_is_missing_and_leaves_it_out(root, tmp_path):
  mine = shutil.copytree(root, tmp_path / 'root')
  (mine / 'pooled-1' / 'results.csv').unlink()
  (mine / 'jobs').mkdir()
  (mine / 'jobs' / 'maml-seed=0-12345678.json').write_text('{}')
  done = command('gather', f'--root={mine}', f'--out={tmp_path / "out"}')
  assert done.returncode == 0, done.stderr
  assert 'pooled-1 has not finished: left out' in done.stdout
  assert 'maml-seed=0-12345678 has not begun: left out' in done.stdout
  frame = results.read_results(tmp_path / 'out' / 'results.csv')
  seeds = {row: set(own) for row, own in frame.groupby('learner')['seed']}
  assert seeds['bayes_head'] == {'0', '1', 'all'} and seeds['pooled'] == {'0'}
  assert (tmp_path / 'out' / 'report.html').exists()


def spoilt(root: pathlib.Path, name: str) -> None:
  if name == 'unfinished':
    for path in root.glob('*/results.csv'):
      path.unlink()
  elif name == 'empty':
    shutil.rmtree(root)
  elif name == 'mixed':
    path = root / 'pooled-1' / 'config.json'
    stored = json.loads(path.read_text())
    stored['population']['kwargs']['num_query'] = 9
    path.write_text(json.dumps(stored))
  else:
    path = next((root / 'pooled-1' / 'predictions').rglob('pooled-1-*'))
    shutil.rmtree(path)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('unfinished', 'holds no workdir that has finished'),
    ('empty', 'holds no workdirs: give the folder that they are in'),
    ('mixed', 'population.kwargs.num_query: 16 and 9'),
    ('lost', 'has no predictions after 0, 2 shots: run the table of'),
  ],
)
def test_what_cannot_be_gathered_is_one_line_and_leaves_nothing(root, tmp_path, name, message):
  mine = shutil.copytree(root, tmp_path / 'root')
  spoilt(mine, name)
  done = command('gather', f'--root={mine}', f'--out={tmp_path / "out"}')
  assert done.returncode == 2
  assert message in done.stderr and 'Traceback' not in done.stderr
  assert not (tmp_path / 'out').exists()

"""Episodes from files, scored from parquet, give the very numbers of the built-in route."""

import json
import pathlib
import shutil
import subprocess
import sys

import exported
import numpy as np
import pandas as pd
import pytest

from metapers.bench import (
  cells,
  episodes,
  freezing,
  references,
  results,
  scoring,
  submissions,
)
from metapers.core import files

EXAMPLE = pathlib.Path(__file__).parents[1] / 'experiments' / 'numpy_example.py'


@pytest.fixture(scope='module')
def submission(tmp_path_factory):
  return exported.submitted(exported.table(), tmp_path_factory.mktemp('submission'))


def score(folder, paths, **options):
  return scoring.score(folder, paths, **{'name': 'cnp', 'log': exported.quiet} | options)


def built_in(settings, made, folder):
  """Returns the rows of the built-in route, with the references that were exported."""
  manifest = episodes.read_episodes_manifest(folder)
  frames = []
  for setting, entry in zip(settings, manifest['conditions']):
    predicted = scoring.stored_references(folder, manifest, entry, None)
    predicted['cnp'] = {'': made[setting.name]}
    frames.append(results.rows_of(setting, results.evaluate_all(setting, predicted)))
  return results.join(frames).assign(
    train_shots='', train_steps=''
  )  # which nobody knows of a submission


def test_parquet_gives_the_very_numbers_of_the_built_in_route(folder, submission):
  settings, made, paths = submission
  found = score(folder, paths)
  pd.testing.assert_frame_equal(found, built_in(settings, made, folder), check_exact=True)
  assert {'oracle', 'bayes', 'cnp'} <= set(found['learner'])
  assert 'accuracy_minus_bayes' in set(found['metric'])


def test_references_are_those_of_the_benchmark(folder, submission):
  setting, manifest = submission[0][0], episodes.read_episodes_manifest(folder)
  stored = scoring.stored_references(folder, manifest, manifest['conditions'][0], None)
  plan = exported.table()
  made = references.makers(setting, plan.evaluation, plan.populations[0], log=exported.quiet)
  np.testing.assert_array_equal(stored['bayes'][''].log_probs, made['bayes'](setting).log_probs)


def test_without_picks_there_are_no_metrics_of_them(folder, submission):
  found = score(folder, submission[2][:1])
  metrics = set(results.select(found, learner='cnp')['metric'])
  assert 'accuracy_minus_bayes' in metrics
  assert not {name.partition('_minus_')[0] for name in metrics} & set(submissions.OF_PICKS)
  assert 'regret' in set(results.select(found, learner='oracle')['metric'])


def test_the_numpy_example_gets_on_the_table(folder, tmp_path):
  path, lines = tmp_path / 'logistic.parquet', []
  subprocess.run([sys.executable, EXAMPLE, folder, path], check=True)
  found = score(folder, [path], name='logistic', log=lines.append)
  assert any('logistic' in line for line in lines)
  assert any('licence: none' in line for line in lines)
  accuracy = results.select(found, learner='logistic', metric='accuracy', split='test')
  values = accuracy.set_index('shots')['value']
  assert values['0'] == pytest.approx(0.5)  # who has read nothing knows nothing
  assert values['3'] > 0.55


def write_config(folder, identity):
  files.write_json(folder / 'config.json', identity)


def identity_of(plan):
  """Returns what the workdir of the table would hold, as JSON."""
  data = plan.conditions[0].populations[0]().content_hash
  return json.loads(json.dumps({**plan.identity, 'data': data}))


def test_a_benchmark_stands_beside(folder, submission, tmp_path):
  settings, _, paths = submission
  plan = exported.table()
  identity = identity_of(plan)
  write_config(tmp_path, identity)
  trained = cells.Trained(plan, 'pooled', 0, tmp_path)
  cells.keep_index(tmp_path, settings, {('pooled', 0): [trained] * len(settings)})
  for setting in settings:
    cells.keep_predictions(
      tmp_path,
      setting,
      trained.name,
      trained.made_by,
      lambda given: exported.predictions(plan, given, 'pooled'),
    )
  labels = {'learner': 'pooled', 'train_shots': '0-4'}
  known = results.rows({'accuracy': np.ones((9, 1))}, (0,), labels, num_users=1)
  results.write_results(tmp_path / 'results.csv', known)
  found = score(folder, paths, name='theirs', workdir=tmp_path)
  theirs = results.select(found, learner='theirs')
  assert 'accuracy_minus_pooled' in set(theirs['metric'])
  assert set(theirs['train_shots']) == {''}
  assert set(results.select(found, learner='pooled')['train_shots']) == {'0-4'}
  identity['population']['kwargs']['concentration'] = 0.1
  write_config(tmp_path, identity)
  with pytest.raises(ValueError, match=r'population\.kwargs\.concentration: 0\.1 there, 0\.05 now'):
    score(folder, paths, name='theirs', workdir=tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda identity: identity['benchmark'].update(folds=[1, 0]), r'folds: \[1, 0\] there'),
    (lambda identity: identity.pop('benchmark'), 'is of a single run'),
    (lambda identity: None, "no predictions for 'default' yet"),
  ],
)
def test_a_workdir_of_something_else_is_refused(folder, submission, tmp_path, change, message):
  identity = identity_of(exported.table())
  change(identity)
  write_config(tmp_path, identity)
  with pytest.raises(ValueError, match=message):
    score(folder, submission[2], name='theirs', workdir=tmp_path)


def test_people_are_evaluated_by_their_choices(tmp_path):
  (tmp_path / 'people').mkdir()
  plan = exported.people(tmp_path / 'people')
  folder = freezing.export_episodes(plan, tmp_path / 'episodes', licence='none', log=exported.quiet)
  settings, made, paths = exported.submitted(plan, tmp_path / 'submission', 'pooled')
  found = score(folder, paths)
  pd.testing.assert_frame_equal(found, built_in(settings, made, folder), check_exact=True)
  answers = set(np.load(folder / 'truth' / 'default.npz').files)
  assert answers == {'query_choice', 'query_weight'}
  assert set(np.load(folder / 'train.npz')['fold']) == {0, 1}
  assert np.load(folder / 'default' / 'test.npz')['fold'].tolist() == [0] * 6 + [1] * 6


def test_names_of_other_rows_are_refused(folder, submission):
  with pytest.raises(ValueError, match="'bayes' is the name of another row; give --name=ANOTHER"):
    score(folder, submission[2], name='bayes')


def test_episodes_that_were_altered_are_refused(folder, submission, tmp_path):
  altered = shutil.copytree(folder, tmp_path / 'altered')
  np.savez(altered / 'truth' / 'default.npz', query_choice=np.zeros((6, 5), np.int32))
  with pytest.raises(ValueError, match=r'truth/default\.npz is not the file that manifest\.json'):
    score(altered, submission[2])

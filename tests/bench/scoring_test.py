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

NEW_ITEMS = {'item_holdout': True, 'item_holdout_share': 0.5, 'num_people': 40}
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
  trained_on = {'test': '0-4', 'seen': '0-8'}  # comparisons, by split
  known = [
    results.rows(
      {'accuracy': np.ones((9, 1))},
      (0,),
      {**setting.labels, 'learner': 'pooled', 'train_shots': trained_on[setting.split]},
      num_users=1,
    )
    for setting in settings
  ]
  results.write_results(tmp_path / 'results.csv', results.join(known))
  found = score(folder, paths, name='theirs', workdir=tmp_path)
  theirs = results.select(found, learner='theirs')
  assert 'accuracy_minus_pooled' in set(theirs['metric'])
  assert set(theirs['train_shots']) == {''}
  for split, shots in trained_on.items():
    assert set(results.select(found, learner='pooled', split=split)['train_shots']) == {shots}
  files.write_json(tmp_path / 'users.json', dict.fromkeys([one.name for one in settings], 'others'))
  with pytest.raises(ValueError, match=r'predicted for other users of .* under the same options'):
    score(folder, paths, name='theirs', workdir=tmp_path)
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


@pytest.mark.parametrize(
  ('options', 'resampled'),
  [
    ({}, ''),
    (NEW_ITEMS, 'items'),
    ({**NEW_ITEMS, 'num_contexts': 4}, 'contexts'),
  ],
)
def test_people_are_evaluated_by_their_choices(tmp_path, options, resampled):
  (tmp_path / 'people').mkdir()
  plan = exported.people(tmp_path / 'people', **options)
  folder = freezing.export_episodes(plan, tmp_path / 'episodes', licence='none', log=exported.quiet)
  settings, made, paths = exported.submitted(plan, tmp_path / 'submission', 'pooled')
  found = score(folder, paths)
  pd.testing.assert_frame_equal(found, built_in(settings, made, folder), check_exact=True)
  assert episodes.read_episodes_manifest(folder)['conditions'][0]['resampled'] == resampled
  answers = set(np.load(folder / 'truth' / 'default.npz').files)
  assert answers == {'query_choice', 'query_weight', *['query_resampled'] * bool(resampled)}
  assert set(np.load(folder / 'train.npz')['fold']) == {0, 1}
  sizes = settings[0].sizes
  assert (
    np.load(folder / 'default' / 'test.npz')['fold'].tolist() == [0] * sizes[0] + [1] * sizes[1]
  )


def test_names_of_other_rows_are_refused(folder, submission):
  with pytest.raises(ValueError, match="'bayes' is the name of another row; give --name=ANOTHER"):
    score(folder, submission[2], name='bayes')


def test_episodes_that_were_altered_are_refused(folder, submission, tmp_path):
  altered = shutil.copytree(folder, tmp_path / 'altered')
  np.savez(altered / 'truth' / 'default.npz', query_choice=np.zeros((6, 5), np.int32))
  with pytest.raises(ValueError, match=r'truth/default\.npz is not the file that manifest\.json'):
    score(altered, submission[2])


@pytest.fixture(scope='module')
def of_new_items(tmp_path_factory):
  """Returns episodes of people and new items, and what an untrained learner predicts."""
  place = tmp_path_factory.mktemp('new_items')
  plan = exported.people(place, **NEW_ITEMS)
  folder = freezing.export_episodes(plan, place / 'episodes', licence='none', log=exported.quiet)
  return folder, exported.submitted(plan, place / 'submission', 'pooled')[2]


def altered(folder, place, *, entry, hidden):
  """Copies episodes with another entry of the condition, and other arrays of the truth."""
  copied = shutil.copytree(folder, place)
  manifest = json.loads((copied / 'manifest.json').read_text())
  entry(manifest['conditions'][0])
  draft = episodes.Draft(copied, {}, manifest['files'], False)
  draft.add('truth/default.npz', hidden(dict(np.load(folder / 'truth' / 'default.npz'))))
  files.write_json(copied / 'manifest.json', manifest)
  return copied


def test_what_is_printed_says_for_whom_intervals_are(of_new_items):
  lines = []
  score(*of_new_items, log=lines.append)
  assert lines[1].startswith('95 % intervals are for new people and new items, and for these')


def test_episodes_of_before_are_scored_for_the_same_items(of_new_items, tmp_path):
  folder, paths = of_new_items
  old = altered(
    folder,
    tmp_path / 'old',
    entry=lambda entry: entry.pop('resampled'),
    hidden=lambda arrays: {name: arrays[name] for name in episodes.LABELS},
  )
  then, now = (results.select(score(place, paths), metric='nll') for place in (old, folder))
  np.testing.assert_array_equal(then['value'], now['value'])
  assert (then['ci_high'] < now['ci_high']).all()


@pytest.mark.parametrize(
  ('kind', 'change', 'message'),
  [
    ('', lambda ids: ids, r"'default' has 2 ids .* expected 0 \(resampled=''\)"),
    ('contexts', lambda ids: ids, 'has 2 ids of each comparison to resample, expected 1'),
    ('items', lambda ids: ids[..., :1], 'has 1 ids of each comparison to resample, expected 2'),
    ('items', lambda ids: ids[:3], 'query_resampled of these episodes is'),
    ('items', lambda ids: ids + 0.5, 'query_resampled of these episodes is float64'),
    (
      'prompts',
      lambda ids: ids,
      r"field 'conditions\.0\.resampled' must be '', 'items', ",
    ),
  ],
)
def test_ids_that_do_not_fit_are_refused(of_new_items, tmp_path, kind, change, message):
  folder, paths = of_new_items
  wrong = altered(
    folder,
    tmp_path / 'wrong',
    entry=lambda entry: entry.update(resampled=kind),
    hidden=lambda arrays: arrays | {'query_resampled': change(arrays['query_resampled'])},
  )
  with pytest.raises(ValueError, match=message):
    score(wrong, paths)

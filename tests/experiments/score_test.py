"""Frozen episodes, scored from parquet, give the very numbers of the built-in route."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import build, freezing, publish, references, runs, scoring, settings
from experiments.configs import base, quickstart
from metapers.bench import frozen, results, submissions
from metapers.core import files

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLE = pathlib.Path(__file__).parent / 'numpy_example.py'
CONDITIONS = ({}, {'split': 'seen'})


def tiny(config):
  config.evaluation.shots = (0, 3)
  config.evaluation.num_users = 6
  config.evaluation.num_particles = 20
  config.evaluation.num_resamples = 20
  return config


def simulated():
  config = tiny(quickstart.get_config())
  kwargs = config.population.kwargs
  kwargs.num_support, kwargs.num_query, kwargs.num_slates, kwargs.num_held_out = 4, 5, 2, 8
  kwargs.num_users = 9
  config.benchmark.conditions = CONDITIONS
  return config


def people(folder):
  """Fifteen people who compared twelve things with three features, in two folds."""
  rng = np.random.default_rng(0)
  items = pd.DataFrame(rng.normal(size=(12, 3)), columns=['a', 'b', 'c'])
  pairs = [(user, *rng.choice(12, 2, replace=False)) for user in range(15) for _ in range(9)]
  judged = pd.DataFrame(pairs, columns=['user_id', 'chosen', 'rejected'])
  items.insert(0, 'item_id', range(12))
  items.to_csv(folder / 'items.csv', index=False)
  judged.to_csv(folder / 'comparisons.csv', index=False)
  kwargs = {'path': str(folder), 'num_support': 4, 'num_query': 5, 'num_folds': 2}
  config = base.base(build.population_config('people', **kwargs))
  return tiny(base.table(config, {'pooled': {}}, folds=(0, 1)))


def predictions(config, setting, learner='cnp'):
  """What an untrained learner says, which is anything but constant."""
  single = base.single(config, learner)
  made = []
  for population in setting.populations:
    learner = build.learner(single, population.spec)
    made.append(runs.Run(learner, learner.init(jax.random.key(0)), population, 0))
  return settings.predict(config, setting, made)


def submitted(config, folder):
  """Writes an untrained learner's predictions; returns these and the files, by condition."""
  judged = [settings.make(config, condition) for condition in config.benchmark.conditions]
  made = {setting.name: predictions(config, setting) for setting in judged}
  asked = {
    setting.name: submissions.asked(setting.tasks, setting.truth, setting.shots)
    for setting in judged
  }
  return judged, made, submissions.write(folder, made, asked)


@pytest.fixture(scope='module')
def config():
  return simulated()


@pytest.fixture(scope='module')
def episodes(config, tmp_path_factory):
  folder = tmp_path_factory.mktemp('frozen') / 'episodes'
  return freezing.export(config, folder, num_train_users=7)


@pytest.fixture(scope='module')
def submission(config, tmp_path_factory):
  return submitted(config, tmp_path_factory.mktemp('submission'))


def built_in(config, judged, made, folder):
  """The rows of the built-in route, with the references that were exported."""
  manifest = frozen.read(folder)
  rows = []
  for setting, entry in zip(judged, manifest['conditions']):
    found = scoring.stored_references(folder, manifest, entry, None)
    rows += publish.rows_of(
      setting, publish.judge_all(setting, {**found, 'cnp': {'': made[setting.name]}})
    )
  return rows


def same(found, wanted):
  """Compares rows bit by bit, all but what a submission is not asked for."""
  blank = [row._replace(train_shots='') for row in wanted]
  assert len(found) == len(blank)
  for one, other in zip(found, blank):
    assert repr(one._replace(train_shots='')) == repr(other)  # NaN equals NaN, as text


def test_parquet_gives_the_very_numbers_of_the_built_in_route(config, episodes, submission):
  judged, made, paths = submission
  found = scoring.score(episodes, paths, name='cnp')
  same(found, built_in(config, judged, made, episodes))
  assert {'oracle', 'bayes', 'cnp'} <= {row.learner for row in found}
  assert any(row.metric == 'accuracy_minus_bayes' for row in found)


def test_references_are_those_of_the_benchmark(config, episodes, submission):
  setting, manifest = submission[0][0], frozen.read(episodes)
  stored = scoring.stored_references(episodes, manifest, manifest['conditions'][0], None)
  again = references.table(config, setting)['bayes'](setting)
  np.testing.assert_array_equal(stored['bayes'][''].log_probs, again.log_probs)


def test_without_picks_nothing_is_said_of_them(episodes, submission):
  found = scoring.score(episodes, submission[2][:1], name='cnp')
  metrics = {row.metric for row in found if row.learner == 'cnp'}
  assert 'accuracy_minus_bayes' in metrics
  assert not {name.partition('_minus_')[0] for name in metrics} & set(submissions.OF_PICKS)
  assert 'regret' in {row.metric for row in found if row.learner == 'oracle'}


def test_training_is_not_claimed_of_a_submission(episodes, submission):
  found = scoring.score(episodes, submission[2], name='cnp')
  assert {row.train_shots for row in found if row.learner == 'cnp'} == {''}


def test_test_files_hold_no_answers_and_validation_and_train_do(episodes):
  name = frozen.read(episodes)['conditions'][1]['name']
  test = np.load(episodes / name / 'test.npz')
  assert not {'query_choice', 'weights', 'support_rewards'} & set(test.files)
  assert test['shots'].tolist() == [0, 3]
  for path in (episodes / name / 'validation.npz', episodes / 'train.npz'):
    assert 'query_choice' in np.load(path).files
  assert np.load(episodes / 'train.npz')['user'].tolist() == list(range(7))


def test_seen_users_are_found_among_those_to_learn_from(episodes):
  train = np.load(episodes / 'train.npz')
  assert np.load(episodes / 'default' / 'test.npz')['known_user'].tolist() == [9] * 6
  seen = np.load(episodes / 'split=seen' / 'test.npz')
  assert seen['known_user'].tolist() == list(range(6))
  np.testing.assert_array_equal(seen['support_features'], train['support_features'][:6])
  np.testing.assert_array_equal(seen['support_choice'], train['support_choice'][:6])


def test_the_same_protocol_gives_the_same_bytes(config, episodes, tmp_path):
  again = freezing.export(config, tmp_path / 'again', num_train_users=7)
  assert frozen.fingerprint(again) == frozen.fingerprint(episodes)


def test_the_manifest_says_where_the_data_come_from(episodes, config):
  manifest = frozen.read(episodes)
  assert 'Apache-2.0' in manifest['licence']
  assert manifest['source'].startswith('synthetic')
  assert manifest['config']['data']
  assert manifest['conditions'][0]['population']['pair_rule'] == 'random'


def test_the_numpy_example_gets_on_the_table(episodes, tmp_path, capsys):
  path = tmp_path / 'logistic.parquet'
  subprocess.run([sys.executable, EXAMPLE, episodes, path], check=True)
  found = scoring.score(episodes, [path], name='logistic')
  assert 'logistic' in capsys.readouterr().out
  accuracy = {row.shots: row.value for row in found if row[7:12:4] == ('logistic', 'accuracy')}
  assert accuracy['0'] == pytest.approx(0.5)  # who has seen nothing says nothing
  assert accuracy['3'] > 0.55


def test_a_benchmark_stands_beside(config, episodes, submission, tmp_path):
  judged, _, paths = submission
  identity = runs.identity(config, judged[0].populations[0])
  files.write_atomically(tmp_path / 'config.json', json.dumps(identity))
  num_steps = base.single(config, 'pooled').training.num_steps
  for setting in judged:
    (tmp_path / 'predictions' / setting.name).mkdir(parents=True)
    path = tmp_path / 'predictions' / setting.name / f'pooled-0-{num_steps}.npz'
    np.savez(path, **predictions(config, setting, 'pooled')._asdict())
  found = scoring.score(episodes, paths, name='theirs', workdir=str(tmp_path))
  assert any(row[7:12:4] == ('theirs', 'accuracy_minus_pooled') for row in found)
  identity['population']['kwargs']['concentration'] = 0.1
  files.write_atomically(tmp_path / 'config.json', json.dumps(identity))
  with pytest.raises(ValueError, match=r'population\.kwargs\.concentration: 0\.1 there, 0\.05 now'):
    scoring.score(episodes, paths, name='theirs', workdir=str(tmp_path))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda identity: identity['benchmark'].update(folds=[1, 0]), r'folds: \[1, 0\] there'),
    (lambda identity: identity.pop('benchmark'), 'is of a single run'),
  ],
)
def test_a_workdir_of_something_else_is_refused(
  config, episodes, submission, tmp_path, change, message
):
  identity = runs.identity(config, submission[0][0].populations[0])
  change(identity)
  files.write_atomically(tmp_path / 'config.json', json.dumps(identity))
  with pytest.raises(ValueError, match=message):
    scoring.score(episodes, submission[2], name='theirs', workdir=str(tmp_path))


def test_people_are_judged_by_their_choices(tmp_path):
  (tmp_path / 'people').mkdir()
  config = people(tmp_path / 'people')
  with pytest.raises(ValueError, match=r'source\.json is missing.*give --licence=TEXT'):
    freezing.export(config, tmp_path / 'episodes')
  folder = freezing.export(config, tmp_path / 'episodes', licence='none')
  judged, made, paths = submitted(config, tmp_path / 'submission')
  same(scoring.score(folder, paths, name='cnp'), built_in(config, judged, made, folder))
  assert set(np.load(folder / 'truth' / 'default.npz').files) == {'query_choice'}
  assert set(np.load(folder / 'train.npz')['fold']) == {0, 1}
  assert np.load(folder / 'default' / 'test.npz')['fold'].tolist() == [0] * 6 + [1] * 6


def test_names_of_other_rows_are_refused(episodes, submission):
  with pytest.raises(ValueError, match="'bayes' is the name of another row; give --name=ANOTHER"):
    scoring.score(episodes, submission[2], name='bayes')


def test_streams_are_refused(config, tmp_path):
  config = config.copy_and_resolve_references()
  config.benchmark.conditions = ({'change_at': 0, 'window': 0},)
  with pytest.raises(ValueError, match='support of a stream is what is judged'):
    freezing.export(config, tmp_path / 'episodes')


def test_protocols_are_named(tmp_path):
  assert freezing.config_of('lore:quick').protocol == 'lore'
  path = pathlib.Path(base.__file__).parent / 'copl.py'
  assert freezing.config_of(f'{path}:quick').protocol == 'copl'
  with pytest.raises(ValueError, match=r"unknown protocol 'love'; known: .*lore"):
    freezing.config_of('love')


def test_the_command_writes_results_and_tells_mistakes_in_one_line(episodes, submission, tmp_path):
  command = [sys.executable, '-m', 'experiments.score', f'--episodes={episodes}']
  choices, picks = map(str, submission[2])
  out = tmp_path / 'results.csv'
  done = subprocess.run([*command, choices, picks, '--name=cnp', f'--out={out}'], cwd=ROOT)
  assert done.returncode == 0
  assert {'cnp', 'oracle', 'bayes'} == {row.learner for row in results.read(out)}
  failed = subprocess.run([*command, picks], cwd=ROOT, capture_output=True, text=True)
  assert failed.returncode == 2
  assert failed.stderr.startswith('error: no table with columns condition')
  assert failed.stderr.count('\n') == 1


def test_episodes_that_were_altered_are_refused(episodes, submission, tmp_path):
  altered = shutil.copytree(episodes, tmp_path / 'altered')
  np.savez(altered / 'truth' / 'default.npz', query_choice=np.zeros((6, 5), np.int32))
  with pytest.raises(ValueError, match=r'truth/default\.npz is not the file that manifest\.json'):
    scoring.score(altered, submission[2], name='cnp')

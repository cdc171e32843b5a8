"""Exported episodes: what a learner may see, without the answers; the same bytes each time."""

import copy

import exported
import jax
import numpy as np
import pytest

from experiments import build
from metapers.bench import episodes, freezing, runner, settings
from metapers.bench.plan import Stream


def test_test_files_hold_no_answers_and_validation_and_train_do(folder):
  name = episodes.read_episodes_manifest(folder)['conditions'][1]['name']
  test = np.load(folder / name / 'test.npz')
  assert not {'query_choice', 'query_weight', 'weights', 'support_rewards'} & set(test.files)
  assert test['shots'].tolist() == [0, 3]
  for path in (folder / name / 'validation.npz', folder / 'train.npz'):
    assert {'query_choice', 'query_weight'} <= set(np.load(path).files)
  assert np.load(folder / 'train.npz')['user'].tolist() == list(range(7))


def test_seen_users_are_found_among_those_to_learn_from(folder):
  train = np.load(folder / 'train.npz')
  assert np.load(folder / 'default' / 'test.npz')['known_user'].tolist() == [9] * 6
  seen = np.load(folder / 'split=seen' / 'test.npz')
  assert seen['known_user'].tolist() == list(range(6))
  for name in ('support_features', 'support_choice', 'support_weight'):
    np.testing.assert_array_equal(seen[name], train[name][:6])


def test_a_folder_is_made_by_one_process(monkeypatch, tmp_path):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(ValueError, match=r'made by one process, got 2: start it without'):
    freezing.export_episodes(exported.table(), tmp_path / 'episodes', licence='none')


def test_the_same_table_gives_the_same_bytes(folder, tmp_path):
  again = freezing.export_episodes(
    exported.table(),
    tmp_path / 'again',
    licence='none',
    num_train_users=7,
    has_references=False,
    log=exported.quiet,
  )
  first, second = map(episodes.read_episodes_manifest, (folder, again))
  hashes = {name: entry['sha256'] for name, entry in first['files'].items()}
  expected = {name: own for name, own in hashes.items() if not name.endswith('-references.npz')}
  assert {name: entry['sha256'] for name, entry in second['files'].items()} == expected


def test_the_manifest_says_where_the_data_come_from(folder):
  manifest = episodes.read_episodes_manifest(folder)
  assert manifest['licence'] == 'none'
  assert manifest['source'].startswith('synthetic')
  assert manifest['identity']['data']
  assert manifest['conditions'][0]['population']['pair_rule'] == 'random'


def test_a_condition_that_is_trained_on_has_its_own_users_to_learn_from(tmp_path):
  plan = exported.table()
  apart = plan._replace(
    conditions=(plan.conditions[0]._replace(entries=plan.entries),),
  )
  folder = freezing.export_episodes(
    apart,
    tmp_path / 'apart',
    licence='none',
    num_train_users=7,
    has_references=False,
    log=exported.quiet,
  )
  assert (folder / 'default' / 'train.npz').exists()
  assert not (folder / 'train.npz').exists()


def test_references_believe_in_the_users_that_a_condition_is_trained_on(tmp_path):
  config = copy.deepcopy(exported.simulated())
  config.benchmark.update(conditions=({'concentration': 1.0},), retrain=True)
  config.evaluation.seen_prior = True
  plan = build.plan(config)
  folder = freezing.export_episodes(
    plan, tmp_path / 'own', licence='none', num_train_users=0, log=exported.quiet
  )
  setting = settings.make_setting(plan, plan.conditions[0])
  stored = np.load(folder / 'truth' / f'{setting.name}-references.npz')
  made = runner.makers_of(plan, plan.conditions[0], setting, exported.quiet)
  np.testing.assert_array_equal(
    stored['bayes_seen.log_probs'], made['bayes_seen'](setting).log_probs
  )


def test_streams_are_refused(tmp_path):
  plan = exported.table()
  stream = plan.conditions[0]._replace(stream=Stream(0, 0))
  with pytest.raises(ValueError, match='support of a stream is what is evaluated'):
    freezing.export_episodes(
      plan._replace(conditions=(stream,)), tmp_path / 'episodes', licence='none'
    )

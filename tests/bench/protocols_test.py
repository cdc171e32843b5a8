"""Every protocol has a config that can be judged, says where it comes from, and keeps apart."""

import importlib
import pathlib

import numpy as np
import pytest

from experiments import populations, references, settings
from experiments.configs import base
from metapers.bench import protocols
from metapers.bench.protocols import PROTOCOLS
from metapers.core.population import SEEN

CONFIGS = pathlib.Path(base.__file__).parent
NAMED = {'metapers': 'benchmark'}  # the bench itself


def module(name):
  return importlib.import_module(f'experiments.configs.{NAMED.get(name, name)}')


def small(name):
  config = module(name).get_config('quick')
  config.evaluation.num_users = config.evaluation.num_validation_users = 8
  config.evaluation.num_resamples = 10
  config.evaluation.num_particles = 40
  return config


@pytest.mark.parametrize('name', PROTOCOLS)
def test_every_protocol_has_a_documented_config(name):
  document = module(name).__doc__
  assert 'Source: ' in document or 'Paper: ' in document
  assert 'Command: ' in document
  for whole in ('', 'quick'):
    config = module(name).get_config(whole)
    assert config.protocol == name
    assert len(config.benchmark.learners) >= (5 if not whole or name == 'metapers' else 3)
    base.single(config, 'pooled')


@pytest.mark.parametrize('name', PROTOCOLS)
def test_conditions_change_what_exists(name):
  for whole in ('', 'quick'):
    config = module(name).get_config(whole)
    for condition in config.benchmark.conditions:
      changes, how = settings.divide(condition)
      base.update('population', config.copy_and_resolve_references().population.kwargs, changes)
      assert how.get('split', 'test') in ('test', SEEN)
    assert max(config.evaluation.shots) <= config.population.kwargs.num_support


@pytest.mark.parametrize('name', sorted(set(PROTOCOLS) - {'np_btl'}))
def test_users_are_judged_on_test_prompts_and_have_a_ceiling(name):
  config = small(name)
  setting = settings.make(config, config.benchmark.conditions[-1])
  arrays = setting.populations[0].arrays
  if setting.stream is None:
    assert np.isin(setting.truth.query_prompts, arrays.prompts['test']).all()
    assert np.isin(setting.truth.support_prompts, arrays.prompts['train']).all()
  made = references.table(config, setting)
  assert 'oracle' in made
  assert bool({'bayes', 'bayes_scores'} & set(made)) == references.has_posterior(setting)


def test_the_prior_of_seen_users_is_worse_than_that_of_new_ones():
  config = small('leave_one_reward_model_out')
  config.evaluation.num_particles = 200
  config.evaluation.num_users = 40
  config.evaluation.shots = (0, 2, 8)
  setting = settings.make(config, config.benchmark.conditions[0])
  made = references.table(config, setting)
  assert set(made) == {'oracle', 'bayes', 'bayes_seen'}
  nll = {}
  for name in ('bayes', 'bayes_seen'):
    predicted = made[name](setting)
    chosen = np.take_along_axis(
      np.asarray(predicted.log_probs), np.asarray(setting.tasks.query.choice)[None, ..., None], -1
    )
    nll[name] = -chosen.mean((1, 2, 3))
  assert np.all(nll['bayes'] < nll['bayes_seen'] - 0.1)


def test_streams_have_a_posterior_while_tastes_last():
  config = small('stream')
  constant, changed = (settings.make(config, each) for each in config.benchmark.conditions)
  assert 'bayes' in references.table(config, constant)
  assert 'bayes' not in references.table(config, changed)
  made = references.table(config, constant)['bayes'](constant)
  assert made.log_probs.shape[:3] == (1, 8, 32)


def test_streams_are_of_prompts_that_nobody_trained_on():
  config = small('stream')
  setting = settings.make(config, config.benchmark.conditions[0])
  train = setting.populations[0].arrays.prompts['train']
  assert not np.isin(setting.truth.query_prompts, train).any()
  config.population.kwargs.support_prompts = 'train'
  with pytest.raises(ValueError, match="support_prompts='held_out'"):
    settings.make(config, config.benchmark.conditions[0])


def test_seen_users_have_a_prior_without_the_excluded_model():
  config = small('leave_one_reward_model_out')
  config.population.kwargs.num_users = 20
  setting = settings.make(config, {'split': SEEN})
  made = references.table(config, setting)
  same = (np.asarray(made[name](setting).log_probs) for name in ('bayes', 'bayes_seen'))
  np.testing.assert_array_equal(*same)


def test_the_oracle_knows_everyones_own_noise():
  config = small('label_noise')
  config.evaluation.num_users = 40
  setting = settings.make(config, {})  # the mixture that is trained on
  made = references.table(config, setting)['oracle'](setting)
  chosen = np.asarray(setting.tasks.query.choice)[..., None]
  nll = -np.take_along_axis(np.asarray(made.log_probs[0]), chosen, -1)[..., 0].mean(1)
  noisy = np.asarray(setting.populations[0].arrays.users['test'].temperature[:40]) > 0
  assert 0 < noisy.sum() < 40
  np.testing.assert_allclose(nll[~noisy], 0, atol=1e-3)
  assert nll[noisy].mean() < 0.7  # nats; a coin has .693


def test_all_populations_are_looked_at_once():
  found = populations.of_config(module('label_noise').get_config())
  assert list(found)[-2:] == ['default, trained on', 'default, trained on by low_rank']
  assert len(found) == 6
  retrained = populations.of_config(module('budget').get_config())
  assert len(retrained) == 9
  single = base.single(module('lore').get_config('quick'), 'cnp')
  assert list(populations.of_config(single)) == ['default']


def test_nobody_is_seen_without_a_pool():
  config = small('stream')
  with pytest.raises(ValueError, match="no users of split 'seen'"):
    settings.make(config, {'split': SEEN})


def test_judging_is_told_from_populations():
  condition = {'split': SEEN, 'concentration': 1.0, 'window': 3}
  assert settings.divide(condition) == ({'concentration': 1.0}, {'split': SEEN, 'window': 3})
  assert set(protocols.JUDGING) == {'split', 'change_at', 'window'}

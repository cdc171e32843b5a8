"""Every protocol has a config that can be evaluated, says its source, and keeps users apart."""

import importlib
import pathlib

import numpy as np
import pytest

from experiments import build
from experiments.configs import base
from metapers.bench import plan, references, settings
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


def make(config, condition):
  return settings.make_setting(build.plan(config), build.condition(config, condition))


def prompts(setting, split):
  population = setting.populations[0]
  return population.simulation.responses(population.arrays, split).prompts


def table(config, setting):
  made = build.plan(config)
  return references.makers(setting, made.evaluation, made.populations[0], log=print)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_every_protocol_has_a_documented_config(name):
  document = module(name).__doc__
  assert 'Source: ' in document or 'Paper: ' in document
  assert 'Command: ' in document
  for whole in ('', 'quick'):
    config = module(name).get_config(whole)
    assert config.protocol == name
    assert len(config.benchmark.learners) >= (5 if not whole or name == 'metapers' else 3)
    build.single(config, 'pooled')


@pytest.mark.parametrize('name', PROTOCOLS)
def test_conditions_change_what_exists(name):
  for whole in ('', 'quick'):
    config = module(name).get_config(whole)
    for condition in config.benchmark.conditions:
      made = build.condition(config, condition)
      assert made.split in ('test', SEEN)
      assert len(made.populations) == 1
    assert max(config.evaluation.shots) <= config.population.kwargs.num_support


@pytest.mark.parametrize('name', sorted(set(PROTOCOLS) - {'np_btl'}))
def test_users_are_evaluated_on_test_prompts_and_have_a_ceiling(name):
  config = small(name)
  setting = make(config, config.benchmark.conditions[-1])
  if setting.stream is None:
    assert np.isin(setting.truth.query_prompts, prompts(setting, 'test')).all()
    is_apart = setting.populations[0].simulation.support_prompts == 'held_out'
    of_support = prompts(setting, 'test' if is_apart else 'train')
    assert np.isin(setting.truth.support_prompts, of_support).all()
  made = table(config, setting)
  assert 'oracle' in made
  assert bool({'bayes', 'bayes_scores'} & set(made)) == references.has_posterior(setting)


def test_the_prior_of_seen_users_is_worse_than_that_of_new_ones():
  config = small('leave_one_reward_model_out')
  config.evaluation.num_particles = 200
  config.evaluation.num_users = 40
  config.evaluation.shots = (0, 2, 8)
  setting = make(config, config.benchmark.conditions[0])
  made = table(config, setting)
  assert set(made) == {'oracle', 'bayes', 'bayes_seen'}
  nll = {}
  for name in ('bayes', 'bayes_seen'):
    predicted = made[name](setting)
    chosen = np.take_along_axis(
      np.asarray(predicted.log_probs), np.asarray(setting.tasks.query.choice)[None, ..., None], -1
    )
    nll[name] = -chosen.mean((1, 2, 3))
  assert np.all(nll['bayes'] < nll['bayes_seen'] - 0.1)


def test_extreme_pairs_without_their_slates_say_less():
  config = small('personal_llm')
  config.evaluation.num_users = 40
  config.evaluation.shots = (0, 2)
  setting = make(config, config.benchmark.conditions[0])
  made = table(config, setting)
  assert set(made) == {'oracle', 'bayes', 'bayes_pair'}
  nll = {}
  for name in ('bayes', 'bayes_pair'):
    predicted = np.asarray(made[name](setting).log_probs)
    choice = np.asarray(setting.tasks.query.choice)[None, ..., None]
    nll[name] = -np.take_along_axis(predicted, choice, -1).mean((1, 2, 3))
  assert np.all(nll['bayes'] < nll['bayes_pair'])
  assert nll['bayes_pair'][1] < nll['bayes_pair'][0] < np.log(2)
  config.evaluation.without = ('bayes_pair',)
  assert set(table(config, setting)) == {'oracle', 'bayes'}
  config.evaluation.without = ('bayes_pairs',)
  with pytest.raises(ValueError, match="no reference is called 'bayes_pairs'; known: oracle"):
    table(config, setting)


def test_streams_have_a_posterior_while_preferences_last():
  config = small('stream')
  constant, changed = (make(config, each) for each in config.benchmark.conditions)
  assert 'bayes' in table(config, constant)
  assert 'bayes' not in table(config, changed)
  made = table(config, constant)['bayes'](constant)
  assert made.log_probs.shape[:3] == (1, 8, 32)


def test_streams_are_of_prompts_outside_of_training():
  config = small('stream')
  setting = make(config, config.benchmark.conditions[0])
  assert not np.isin(setting.truth.query_prompts, prompts(setting, 'train')).any()
  config.population.kwargs.support_prompts = 'train'
  with pytest.raises(ValueError, match="support_prompts='held_out'"):
    make(config, config.benchmark.conditions[0])


def test_seen_users_have_a_prior_without_the_excluded_model():
  config = small('leave_one_reward_model_out')
  config.population.kwargs.num_users = 20
  setting = make(config, {'split': SEEN})
  made = table(config, setting)
  same = (np.asarray(made[name](setting).log_probs) for name in ('bayes', 'bayes_seen'))
  np.testing.assert_array_equal(*same)


def test_the_oracle_knows_everyones_own_noise():
  config = small('label_noise')
  config.evaluation.num_users = 40
  setting = make(config, {})  # the mixture that is trained on
  made = table(config, setting)['oracle'](setting)
  chosen = np.asarray(setting.tasks.query.choice)[..., None]
  nll = -np.take_along_axis(np.asarray(made.log_probs[0]), chosen, -1)[..., 0].mean(1)
  population = setting.populations[0]
  users = population.simulation.users(population.arrays, 'test')
  noisy = np.asarray(users.temperature[:40]) > 0
  assert 0 < noisy.sum() < 40
  np.testing.assert_allclose(nll[~noisy], 0, atol=1e-3)
  assert nll[noisy].mean() < 0.7  # nats; a coin has .693


def test_all_populations_are_looked_at_once():
  found = plan.populations_of(build.plan(module('label_noise').get_config()))
  assert list(found)[-2:] == ['trained on', 'trained on by low_rank']
  assert len(found) == 6
  assert len(plan.populations_of(build.plan(module('budget').get_config()))) == 9
  single = build.single(module('lore').get_config('quick'), 'cnp')
  assert list(plan.populations_of(build.plan(single))) == ['default']


def test_users_of_training_are_there_only_in_a_finite_pool():
  config = small('stream')
  with pytest.raises(ValueError, match="no users of split 'seen'"):
    make(config, {'split': SEEN})


def test_how_users_are_evaluated_is_no_option_of_the_population():
  config = small('lore')
  made = build.condition(config, {'split': SEEN, 'concentration': 1.0})
  assert made.split == SEEN
  assert made.name == 'split=seen-concentration=1.0'
  assert made.populations[0]().simulation.user_models[0].concentration == 1.0

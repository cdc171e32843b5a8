import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_tables import NAMES, table

from metapers.core import task
from metapers.core.population import SPLITS, UserModel
from metapers.populations import reward_episodes, simulated_noise
from metapers.populations.reward_ensemble import reward_ensemble


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw(sample_episode, arrays, split, keys):
  return jax.vmap(lambda key: sample_episode(arrays, key, split))(keys)


def episodes(population, split, count=64):
  keys = jax.random.split(jax.random.key(0), count)
  return draw(population.sample_episode, population.arrays, split, keys)


@functools.cache
def plain():
  return small()


def small(**changes):
  return reward_ensemble(
    table(), **{'num_support': 8, 'num_query': 8, 'num_slates': 4, 'num_held_out': 50, **changes}
  )


@pytest.mark.parametrize('pair_rule', ['random', 'extreme', 'controversial'])
def test_noiseless_choices_maximise_the_users_reward(pair_rule):
  tasks, truth = episodes(small(pair_rule=pair_rule), 'train')
  utilities = jnp.einsum('tneb,tb->tne', truth.query_rewards, truth.weights)[..., :2]
  assert tasks.query.mask.all()
  np.testing.assert_array_equal(utilities.argmax(-1), tasks.query.choice)


def test_masked_responses_are_never_shown():
  tasks, _ = episodes(small(track='features'), 'train')
  assert np.all(np.isfinite(tasks.query.candidates.features))
  assert tasks.query.candidates.mask.all()


def test_prompts_of_an_episode_are_distinct_and_of_the_right_split():
  splits = table().prompt_split
  for split, support_split in (('train', 0), ('validation', 0), ('test', 0)):
    _, truth = episodes(plain(), split)
    everything = np.concatenate(
      [truth.support_prompts, truth.query_prompts, truth.slate_prompts], axis=-1
    )
    assert all(len(set(row)) == 20 for row in everything.tolist())
    assert np.all(splits[truth.support_prompts] == support_split)
    expected = ('train', 'validation', 'test').index(split)
    assert np.all(splits[truth.query_prompts] == expected)
    assert np.all(splits[truth.slate_prompts] == expected)


def test_support_can_come_from_held_out_prompts():
  _, truth = episodes(small(support_prompts='held_out'), 'test')
  assert np.all(table().prompt_split[truth.support_prompts] == 2)


def test_every_real_response_takes_part():
  tasks, truth = episodes(plain(), 'train')
  rewards = np.nan_to_num((table().rewards - 3) / 2)
  shown = np.asarray(truth.query_rewards).reshape(-1, 1, 3)
  prompts = np.asarray(truth.query_prompts).repeat(2)
  matches = np.isclose(rewards[prompts], shown, atol=1e-6).all(-1)
  assert matches[:, :5].any(0).all()
  assert not matches[:, 5].any()
  assert tasks.query.mask.all()


def test_the_three_streams_of_users_are_disjoint():
  population = plain()
  users = [population.simulation.users(population.arrays, split) for split in SPLITS]
  rows = np.concatenate([np.asarray(group.weights)[:50] for group in users])
  assert len(np.unique(rows, axis=0)) == 150


def test_ties_never_become_labels():
  tied = table()._replace(rewards=np.zeros((120, 6, 3), np.float32), mask=np.ones((120, 6), bool))
  population = reward_ensemble(tied, num_support=4, num_query=4, num_slates=2, num_held_out=5)
  tasks, _ = episodes(population, 'train', 8)
  assert not tasks.support.mask.any()
  assert not tasks.query.mask.any()


@pytest.mark.parametrize('label_accuracy', [0.9, 0.75])
def test_label_accuracy_is_met(label_accuracy):
  population = small(label_accuracy=label_accuracy)
  tasks, truth = episodes(population, 'train', 2000)
  utilities = jnp.einsum('tneb,tb->tne', truth.query_rewards, truth.weights)
  agreement = float(jnp.mean(utilities.argmax(-1) == tasks.query.choice))
  assert abs(agreement - label_accuracy) < 0.015
  simulation = population.simulation
  assert abs(simulation.label_accuracies[0] - label_accuracy) < 1e-3
  assert simulation.user_models[0].temperature > 0


def test_prompts_that_show_nothing_make_no_accuracy_impossible():
  rng = np.random.default_rng(0)
  utilities = jnp.asarray(rng.standard_normal((50, 8, 2)), jnp.float32)
  mask = jnp.asarray(rng.random((50, 8, 1)) < 0.6).repeat(2, -1)
  temperature = simulated_noise.solve_temperature(utilities, mask, 0.6)
  reached = simulated_noise.agreement(utilities, mask, temperature=temperature, flip_rate=0.0)
  np.testing.assert_allclose(reached, 0.6, atol=1e-3)
  with pytest.raises(ValueError, match=r'must lie in \(0\.5, 1\]'):
    simulated_noise.solve_temperature(utilities, mask, 0.5)


def test_the_simulation_states_its_facts():
  noise = {'concentration': (0.1, 1.0), 'temperature': 0.5, 'flip_rate': 0.1}
  population = small(**noise, pair_rule=('random', 'extreme'), support_prompts='held_out')
  simulation = population.simulation
  assert simulation.reward_models == population.spec.feature_names == NAMES
  assert simulation.user_models == (UserModel(0.1, 0.5, 0.1), UserModel(1.0, 0.5, 0.1))
  assert simulation.pair_rules == ('random', 'extreme')
  assert simulation.response_models[:2] == ('model 0', 'model 1')
  assert simulation.support_prompts == 'held_out'
  assert simulation.normalization == 'z'
  assert simulation.has_score_features
  assert not simulation.excluded_model
  assert population.items is None
  assert (population.source, population.content_hash) == ('synthetic', 'hash')


@pytest.mark.parametrize('split', SPLITS)
def test_responses_are_those_to_the_prompts_of_a_split(split):
  population = small(track='features')
  responses = population.simulation.responses(population.arrays, split)
  prompts = np.asarray(responses.prompts)
  assert sorted(prompts) == np.flatnonzero(table().prompt_split == SPLITS.index(split)).tolist()
  np.testing.assert_array_equal(responses.mask, table().mask[prompts])
  expected = (table().rewards[prompts] - 3) / 2
  np.testing.assert_allclose(responses.rewards, np.nan_to_num(expected), rtol=1e-5)
  assert responses.features.shape == (len(prompts), 6, 5)


def test_a_feature_that_no_train_response_has_is_shown_as_it_is():
  rare = table()
  rare.features[..., 0] = np.arange(6) == 2
  rare.features[rare.prompt_split != SPLITS.index('test'), :, 0] = 0
  sizes = {'num_support': 8, 'num_query': 8, 'num_slates': 4, 'num_held_out': 50}
  tasks, _ = episodes(reward_ensemble(rare, track='features', **sizes), 'test')
  assert set(np.unique(tasks.query.candidates.features[..., 0])) == {0, 1}


def test_histories_of_a_stream_of_given_users_are_of_each_of_them_once():
  drawn = np.random.default_rng(0).dirichlet(np.ones(3), 40)
  population = small(weights={'train': dict(zip(NAMES, drawn.T))})
  histories = population.histories(population.arrays)
  assert histories.user.size == population.spec.num_histories == 40
  many = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
  assert small(weights={'train': dict(zip(NAMES, many.T))}).spec.num_histories == 1024


def test_features_track_hides_the_scores():
  population = small(track='features')
  assert population.spec.num_features == 5
  assert population.spec.feature_names == ()
  assert not population.simulation.has_score_features
  tasks, truth = episodes(population, 'train')
  assert tasks.support.candidates.features.shape[-1] == 5
  assert truth.support_rewards.shape[-1] == 3


def test_a_finite_pool_has_fixed_histories():
  population = small(num_users=7)
  arrays = population.arrays
  histories = jax.jit(population.histories)(arrays)
  assert histories.support.choice.shape == (7, 16)
  assert histories.query.choice.shape == (7, 0)
  assert (population.spec.num_histories, population.spec.history_length) == (7, 16)
  np.testing.assert_array_equal(histories.user, np.arange(7))
  tasks, _ = episodes(population, 'train')
  assert set(np.asarray(tasks.user)) == set(range(7))
  for t in range(20):
    episode = task.concat(*(task.take(part, t) for part in (tasks.support, tasks.query)))
    drawn = np.asarray(episode.candidates.features).sum(-1).ravel()
    stored = np.asarray(histories.support.candidates.features[tasks.user[t]]).sum(-1).ravel()
    np.testing.assert_allclose(np.sort(drawn), np.sort(stored))
  held_out, _ = episodes(population, 'test')
  assert np.all(held_out.user == 7)


def test_reshuffling_keeps_support_and_truth_together():
  population = small(num_users=7)
  tasks, truth = episodes(population, 'train')
  for part, rewards in ((tasks.support, truth.support_rewards), (tasks.query, truth.query_rewards)):
    np.testing.assert_allclose(part.candidates.features, rewards)


def test_fixed_episodes_do_not_change():
  population = plain()
  draw = jax.jit(lambda arrays, user: population.episode_of(arrays, user, 'test')[0])
  first, again = draw(population.arrays, 3), draw(population.arrays, 3)
  other = draw(population.arrays, 4)
  assert jnp.array_equal(first.query.candidates.features, again.query.candidates.features)
  assert not jnp.array_equal(first.query.candidates.features, other.query.candidates.features)


def test_weights_are_matched_by_name():
  weights = {'third': np.zeros(4), 'first': np.ones(4), 'second': np.zeros(4)}
  population = small(weights={'test': weights})
  users = population.simulation.users(population.arrays, 'test')
  np.testing.assert_array_equal(users.weights, [[1, 0, 0]] * 4)
  assert not population.simulation.user_models  # no Dirichlet is known to describe them
  assert population.record['concentration'] == ''
  with pytest.raises(ValueError, match=r"missing \['first'\], unknown \['fourth'\]"):
    named = {'fourth': np.ones(4), 'second': np.zeros(4), 'third': np.zeros(4)}
    small(weights={'test': named})


@pytest.mark.parametrize(
  ('weights', 'options', 'message'),
  [
    ({'train': 4}, {'num_users': 6}, 'weights of train are of 4 users, num_users is 6'),
    ({'tests': 4}, {}, "unknown split 'tests'"),
    ({'test': 4}, {'excluded_model': 'first', 'excluded_share': 0.3}, 'not both'),
  ],
)
def test_given_weights_that_do_not_fit_are_refused(weights, options, message):
  given = {
    split: {'first': np.ones(size), 'second': np.zeros(size), 'third': np.zeros(size)}
    for split, size in weights.items()
  }
  with pytest.raises(ValueError, match=message):
    small(weights=given, **options)


def test_several_concentrations_take_equal_shares():
  population = small(concentration=(0.001, 1000.0))
  weights = np.asarray(population.simulation.users(population.arrays, 'test').weights)
  assert np.all(weights[::2].max(-1) > 0.9)
  assert np.all(weights[1::2].max(-1) < 0.5)


def test_distinct_draws_are_distinct_and_nearly_uniform():
  keys = jax.random.split(jax.random.key(0), 5000)
  drawn = jax.vmap(lambda key: reward_episodes.draw_distinct(key, 11, 4))(keys)
  assert all(len(set(row)) == 4 for row in drawn.tolist())
  share = np.bincount(np.asarray(drawn).ravel(), minlength=11) / drawn.size
  np.testing.assert_allclose(share, 1 / 11, atol=0.04)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'concentration': 0.0}, 'concentration must be positive'),
    ({'temperature': -1.0}, 'temperature must be >= 0'),
    ({'flip_rate': 1.0}, 'flip_rate must lie in'),
    ({'num_held_out': 0}, 'num_held_out at least 1'),
    ({'num_support': 0}, 'num_support and num_query must be at least 1'),
    ({'num_support': 40}, r"'validation' has 30|'test' has 30"),
    ({'pair_rule': 'nearest'}, 'unknown pair_rule'),
    ({'num_candidates': 3}, 'num_candidates must lie in 2..2'),
    ({'track': 'pixels'}, 'unknown track'),
    ({'normalization': 'l2'}, 'unknown normalization'),
    ({'support_prompts': 'any'}, 'support_prompts must be'),
    ({'label_accuracy': 0.4}, 'label_accuracy must lie in'),
    ({'label_accuracy': 0.9, 'temperature': 1.0}, 'not both'),
  ],
)
def test_bad_options_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    small(**changes)


def test_prompts_of_one_response_are_refused():
  made = table(num_responses=2)
  single = made._replace(
    rewards=made.rewards[:, :1], mask=made.mask[:, :1], response_model=made.response_model[:, :1]
  )
  with pytest.raises(ValueError, match=r'needs at least two responses; got responses=\[1\]'):
    reward_ensemble(single, track='scores', num_support=4, num_query=4)


def test_an_empty_split_is_named():
  with pytest.raises(ValueError, match="no prompts in split 'test'"):
    reward_ensemble(table()._replace(prompt_split=np.repeat([0, 1], 60)))


def test_populations_that_are_alike_share_what_jit_compiles():
  first, second, other = (
    small(**options)
    for options in ({'concentration': 0.01}, {'concentration': 1.0}, {'pair_rule': 'extreme'})
  )
  functions = [(each.sample_episode, each.episode_of, each.histories) for each in (first, second)]
  assert functions[0] == functions[1]
  assert other.episode_of is not first.episode_of


def test_a_constant_reward_model_is_named_and_can_be_left_out():
  made = table()
  flat = made._replace(std=np.array([2, 0, 2], np.float32))
  with pytest.raises(
    ValueError, match=r'reward model second gives .* leave it out of reward_models'
  ):
    reward_ensemble(flat)
  kept = reward_ensemble(flat, reward_models=('first', 'third'), num_support=4, num_query=4)
  assert kept.simulation.reward_models == ('first', 'third')

"""Populations that mix pair rules and noise, limit labels, or leave out a reward model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_tables import table

from metapers.core import choice_model
from metapers.core.population import SPLITS
from metapers.evaluation import adaptation
from metapers.populations import dirichlet
from metapers.populations.reward_ensemble import reward_ensemble

SIZES = {'num_support': 8, 'num_query': 8, 'num_slates': 4, 'num_held_out': 60}


def small(**changes):
  return reward_ensemble(table(), **{**SIZES, **changes})


def utilities(truth):
  return np.einsum('tneb,tb->tne', truth.query_rewards, truth.weights)


def test_each_user_keeps_to_one_of_several_pair_rules():
  population = small(pair_rule=('extreme', 'random'), concentration=(0.1, 1.0))
  users = population.simulation.users(population.arrays, 'test')
  np.testing.assert_array_equal(users.rule[:6], [0, 0, 1, 1, 0, 0])
  tasks, truth = adaptation.episodes(population, split='test', num_users=60)
  best = (
    np.asarray(population.arrays.rewards)[truth.query_prompts]
    @ np.asarray(truth.weights)[:, None, :, None]
  )
  best = np.where(np.asarray(population.arrays.mask)[truth.query_prompts], best[..., 0], -np.inf)
  shows_best = np.isclose(utilities(truth).max(-1), best.max(-1)).mean(-1)
  extreme = np.asarray(users.rule) == 0
  assert np.all(shows_best[extreme] == 1)
  assert shows_best[~extreme].mean() < 0.6
  assert tasks.query.mask.all()


def test_several_label_accuracies_take_equal_shares():
  # The noise is set on train prompts; with the usual 30 test prompts, their own luck would show.
  prompts = table(num_prompts=6000)._replace(prompt_split=np.repeat([0, 1, 2], 2000))
  mixture = {'label_accuracy': (1.0, 0.75), 'pair_rule': ('random', 'extreme')}
  population = reward_ensemble(prompts, **{**SIZES, **mixture, 'num_held_out': 4000})
  tasks, truth = adaptation.episodes(population, split='test', num_users=4000)
  right = np.mean(utilities(truth).argmax(-1) == tasks.query.choice, -1)
  users = population.simulation.users(population.arrays, 'test')
  noisy = np.asarray(users.temperature) > 0
  assert noisy.mean() == 0.5
  assert np.all(right[~noisy] == 1)
  for rule in (0, 1):
    chosen = noisy & (np.asarray(users.rule) == rule)
    assert abs(right[chosen].mean() - 0.75) < 0.02
  expected = (1, 0.75, 1, 0.75)
  np.testing.assert_allclose(population.simulation.label_accuracies, expected, atol=1e-3)
  temperatures = [each.temperature for each in population.simulation.user_models]
  assert temperatures == sorted({*np.asarray(users.temperature).tolist()})


def test_a_mixture_of_one_is_no_mixture():
  one, same = small(pair_rule='extreme'), small(pair_rule=('extreme',), label_accuracy=(1.0,))
  for population in (one, same):
    assert population.simulation.pair_rules == ('extreme',)
  drawn = [adaptation.episodes(each, split='test', num_users=9) for each in (one, same)]
  assert all(map(np.array_equal, *map(jax.tree.leaves, drawn)))


def test_few_labels_are_all_a_pool_has():
  population = small(num_users=7, num_labels=5)
  histories = jax.eval_shape(population.histories, population.arrays)
  assert histories.support.choice.shape == (7, population.spec.history_length) == (7, 5)

  def shapes(split):
    draw = functools.partial(population.sample_episode, split=split)
    return jax.eval_shape(draw, population.arrays, jax.random.key(0))[0]

  drawn = shapes('train')
  assert (drawn.support.choice.size, drawn.query.choice.size) == (2, 3)
  assert shapes('test').query.choice.size == 8


@pytest.mark.parametrize('num_labels', [0, 5])
def test_known_users_are_evaluated_on_test_prompts_after_their_own_history(num_labels):
  population = small(num_users=7, num_labels=num_labels)
  tasks, truth = adaptation.episodes(population, split='seen', num_users=7)
  np.testing.assert_array_equal(tasks.user, np.arange(7))
  known = population.simulation.users(population.arrays, 'train')
  np.testing.assert_allclose(truth.weights, known.weights)
  assert np.all(table().prompt_split[truth.query_prompts] == 2)
  assert tasks.support.choice.shape == (7, 8)
  size = num_labels or 8
  assert np.all(tasks.support.mask[:, :size])
  assert not np.any(tasks.support.mask[:, size:])
  histories = jax.jit(population.histories)(population.arrays).support
  np.testing.assert_array_equal(
    tasks.support.candidates.features[:, :size], histories.candidates.features[:, :size]
  )
  best = choice_model.correct(jnp.asarray(utilities(truth)), tasks.query)
  assert np.all(best == 1)


def test_without_a_pool_nobody_is_seen():
  with pytest.raises(ValueError, match="split 'seen'"):
    adaptation.episodes(small(), split='seen', num_users=1)


def test_an_excluded_reward_model_has_weight_for_test_users_alone():
  population = small(excluded_model='second', concentration=(0.05, 0.5))
  simulation = population.simulation
  assert (simulation.excluded_model, simulation.excluded_share) == ('second', 0.5)
  users = {split: simulation.users(population.arrays, split) for split in SPLITS}
  for split in SPLITS[:2]:
    assert np.all(users[split].weights[:, 1] == 0)
  assert np.all(users['test'].weights[:, 1] >= 0.5)
  for group in users.values():
    np.testing.assert_allclose(group.weights.sum(-1), 1, atol=1e-5)


def test_draws_above_a_floor_are_the_conditional_distribution():
  rng = np.random.default_rng(0)
  floor = (0.0, 0.5, 0.0)
  above = np.exp(dirichlet.sample_above(rng, 20_000, 0.3, 3, floor))
  everything = np.exp(dirichlet.sample_log_weights(rng, 200_000, 0.3, 3))
  expected = everything[everything[:, 1] >= 0.5]
  np.testing.assert_allclose(above.mean(0), expected.mean(0), atol=0.006)
  np.testing.assert_allclose((above**2).mean(0), (expected**2).mean(0), atol=0.006)


def test_some_reward_models_and_responses_are_kept_by_name_and_number():
  raw = table()
  population = small(reward_models=('third', 'first'), responses=(4, 2), normalization='raw')
  np.testing.assert_allclose(
    population.arrays.rewards, raw.rewards[:, [3, 1]][..., [2, 0]], rtol=1e-6
  )
  assert population.simulation.reward_models == population.spec.feature_names == ('third', 'first')
  np.testing.assert_array_equal(population.arrays.models[0], [3, 1])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'pair_rule': ('random', 'nearest')}, 'unknown pair_rule random, nearest'),
    ({'pair_rule': ()}, 'unknown pair_rule'),
    ({'pair_rule': ('random', 'best_of_k'), 'num_candidates': 3}, 'num_candidates'),
    ({'num_labels': 5}, 'finite pool'),
    ({'num_labels': 1, 'num_users': 3}, 'at least 2 labels'),
    ({'num_labels': 90, 'num_users': 3}, '94 distinct prompts'),
    ({'reward_models': ('first', 'fourth')}, 'distinct names'),
    ({'reward_models': ('first', 'first')}, 'distinct names'),
    ({'responses': (0, 1)}, r'distinct numbers in 1\.\.6'),
    ({'responses': (3,)}, 'at least two responses'),
    ({'excluded_model': 'fourth'}, 'excluded_model must be one of'),
    ({'excluded_model': 'first', 'excluded_share': 1.0}, 'excluded_share'),
    ({'excluded_model': 'first', 'concentration': 1e4}, 'too rare'),
    ({'label_accuracy': (0.9, 0.1)}, 'label_accuracy must lie in'),
  ],
)
def test_bad_options_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    small(**changes)


def test_liars_answer_the_opposite_of_what_they_prefer():
  honest, lying = small(num_users=40), small(num_users=40, adversarial_share=0.25)
  before, after = (p.simulation.users(p.arrays, 'train').weights for p in (honest, lying))
  is_liar = np.any(before != after, -1)
  assert is_liar.sum() == 10
  np.testing.assert_array_equal(after[is_liar], -before[is_liar])
  choices = [p.histories(p.arrays).support for p in (honest, lying)]
  flipped = np.asarray(choices[0].choice != choices[1].choice)[np.asarray(choices[0].mask)]
  owner = np.broadcast_to(is_liar[:, None], choices[0].mask.shape)[np.asarray(choices[0].mask)]
  np.testing.assert_array_equal(flipped, owner)


def test_liars_may_all_vote_for_one_reward_model_and_held_out_users_are_honest():
  honest = small(num_users=40)
  lying = small(num_users=40, adversaries='second', adversarial_share=0.5)
  weights = np.asarray(lying.simulation.users(lying.arrays, 'train').weights)
  assert np.sum(np.all(weights == [0, 1, 0], -1)) == 20
  for split in SPLITS[1:]:
    users = [p.simulation.users(p.arrays, split) for p in (honest, lying)]
    jax.tree.map(np.testing.assert_array_equal, *users)


def test_the_liars_of_a_small_share_are_among_those_of_a_larger_one():
  honest = np.asarray(small(num_users=40).arrays.users['train'].weights)
  few, many = (
    np.any(np.asarray(small(num_users=40, adversarial_share=s).arrays.users['train'].weights)
           != honest, -1)
    for s in (0.1, 0.5)
  )  # fmt: skip
  assert few.sum() == 4 and np.all(many[few])


@pytest.mark.parametrize('given', [{'adversaries': 'none'}, {'adversarial_share': 1.0}])
def test_unknown_liars_and_impossible_shares_are_refused(given):
  with pytest.raises(ValueError, match='adversarial_share lie in'):
    small(**given)

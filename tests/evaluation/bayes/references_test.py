"""References from the facts of a simulation, of a population that is written here alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulated_posteriors import SMALL, simulate

from metapers.core import choice_model
from metapers.core.population import SEEN, Responses, Simulation, UserModel, Users
from metapers.evaluation import adaptation
from metapers.evaluation.bayes import ceiling, references
from metapers.populations import toy

USER_MODEL = UserModel(0.3)
MODELS = ('a', 'b', 'c')
FACTS = Simulation(MODELS, user_models=(USER_MODEL,), has_score_features=True)
EXCLUDED = FACTS._replace(excluded_model='b', excluded_share=0.5)
OPTIONS = {'shots': (0, 2, 5), 'num_particles': 200}


@functools.cache
def users():
  return simulate(USER_MODEL, **SMALL)


def noise(temperature, flip_rate):
  """Users who only differ in how they choose, more than there are tasks."""
  columns = jnp.asarray(temperature, jnp.float32), jnp.asarray(flip_rate, jnp.float32)
  return Users(jnp.zeros((len(temperature), 3)), *columns, jnp.zeros(len(temperature), int))


def same(got, expected):
  jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_users_of_a_population_come_from_its_facts():
  stored = {'train': noise((0.0,), (0.0,)), 'test': noise((0.5,), (0.0,))}
  facts = FACTS._replace(users=lambda arrays, split: arrays[split])
  made = toy.two_types()._replace(arrays=stored, simulation=facts)
  assert references.users_of(made, 'test') is stored['test']
  assert references.users_of(made, 'seen') is stored['train']
  for without_weights in (toy.two_types(), made._replace(simulation=None)):
    with pytest.raises(ValueError, match='references need simulated users with weights'):
      references.users_of(without_weights, 'test')


@pytest.mark.parametrize(
  ('facts', 'expected'),
  [
    ({}, [True, True]),
    ({'pair_rules': ('random', 'extreme')}, [False, False]),
    ({'user_models': ()}, [False, False]),
    ({'adversarial_share': 0.1}, [True, False]),
  ],
)
def test_a_posterior_needs_one_pair_rule_a_dirichlet_and_honest_users(facts, expected):
  simulation = FACTS._replace(**facts)
  assert [references.has_posterior(simulation, split) for split in ('test', SEEN)] == expected


def test_a_mixture_changes_fields_of_the_known_user_model():
  made = references.mixture(UserModel(0.05, 0.3), [{}, {'concentration': 1.0}])
  assert made == (UserModel(0.05, 0.3), UserModel(1.0, 0.3))
  with pytest.raises(ValueError, match='concentration, temperature, flip_rate; got alpha'):
    references.mixture(USER_MODEL, [{'concentration': 1.0}, {'alpha': 1.0}])


@pytest.mark.parametrize(
  ('split', 'believed', 'floor'),
  [
    ('test', None, (0.0, 0.5, 0.0)),
    ('test', EXCLUDED, ()),
    ('seen', None, ()),
    ('validation', None, ()),
  ],
)
def test_an_excluded_reward_model_has_a_floor_or_is_dropped(split, believed, floor):
  _, truth = users()
  prior = references.prior_of(EXCLUDED, truth, split, believed=believed)
  assert prior.floor == floor
  kept = jnp.array([0, 1, 2] if floor else [0, 2])
  same(prior.truth.support_rewards, truth.support_rewards[..., kept])
  same(prior.truth.slate_rewards, truth.slate_rewards[..., kept])
  same(prior.truth.weights, truth.weights[..., kept])
  assert references.prior_of(FACTS, truth, split).truth is truth


def test_users_are_believed_to_be_those_that_were_trained_on():
  """Who trained without `c` believes it of all new users; who trained with all, of nobody."""
  _, truth = users()
  trained_on = FACTS._replace(excluded_model='c', user_models=(UserModel(1.0),))
  prior = references.prior_of(EXCLUDED, truth, 'test', believed=trained_on)
  same(prior.truth.weights, truth.weights[..., :2])
  assert (prior.floor, prior.user_models) == ((), trained_on.user_models)
  assert references.prior_of(EXCLUDED, truth, 'test', believed=FACTS).truth is truth


def test_bayes_is_the_ceiling_under_the_facts():
  tasks, truth = users()
  expected = ceiling.bayes(tasks, truth, [USER_MODEL], pair_rule='random', **OPTIONS)
  same(references.bayes(tasks, truth, FACTS, split='test', **OPTIONS), expected)


def test_bayes_believes_what_is_known_of_an_excluded_reward_model():
  tasks, truth = users()
  floor = ceiling.bayes(
    tasks, truth, [USER_MODEL], pair_rule='random', floor=(0.0, 0.5, 0.0), **OPTIONS
  )
  same(references.bayes(tasks, truth, EXCLUDED, split='test', **OPTIONS), floor)
  dropped = references.without(truth, 1)
  other = UserModel(1.0)
  seen = ceiling.bayes(tasks, dropped, [other], pair_rule='random', **OPTIONS)
  believed = EXCLUDED._replace(user_models=(other,))
  options = {'believed': believed, **OPTIONS}
  same(references.bayes(tasks, truth, EXCLUDED, split='test', **options), seen)


def test_bayes_of_a_stream_predicts_each_turn_from_those_before():
  tasks, truth = users()
  streamed = tasks._replace(query=tasks.support)
  shown = truth._replace(
    query_rewards=truth.support_rewards,
    query_mask=truth.support_mask,
    slate=jax.tree.map(lambda x: jnp.repeat(x[:, :1], 5, 1), truth.slate),
    slate_rewards=jnp.repeat(truth.slate_rewards[:, :1], 5, 1),
  )
  made, _ = references.bayes(
    streamed, shown, FACTS, split='test', is_stream=True, num_particles=200
  )
  assert made.log_probs.shape == (1, 3, 5, 2)
  whole, _ = ceiling.bayes(
    streamed, shown, [USER_MODEL], pair_rule='random', shots=range(5), num_particles=200
  )
  for turn in range(5):
    same(made.log_probs[0, :, turn], whole.log_probs[turn, :, turn])


def test_the_oracle_knows_each_users_noise():
  tasks, truth = users()
  made = references.oracle(
    tasks, truth, noise((0.0, 0.5, 2.0, 9.0), (0.0, 0.0, 0.1, 0.9)), num_rows=2
  )
  for user, (temperature, flip_rate) in enumerate(((0.0, 0.0), (0.5, 0.0), (2.0, 0.1))):
    one = ceiling.oracle(tasks, truth, num_rows=2, temperature=temperature, flip_rate=flip_rate)
    np.testing.assert_allclose(made.log_probs[:, user], one.log_probs[:, user], rtol=1e-5)


def linear_responses(count, seed=0):
  """Responses whose features are rewards in another basis, and that basis."""
  rng = np.random.default_rng(seed)
  basis = rng.normal(size=(3, 3)).astype(np.float32)
  rewards = rng.normal(size=(count, 4, 3)).astype(np.float32)
  mask = rng.random((count, 4)) < 0.9
  return Responses(np.arange(count), rewards @ basis, rewards, mask), basis


def test_features_that_span_the_rewards_are_worth_the_rewards():
  tasks, truth = users()
  responses, basis = linear_responses(500)
  query = tasks.query._replace(
    candidates=tasks.query.candidates._replace(features=tasks.query.candidates.features @ basis)
  )
  slate = truth.slate._replace(features=truth.slate.features @ basis)
  given = tasks._replace(query=query), truth._replace(slate=slate), noise((0.0,) * 3, (0.0,) * 3)
  read = references.oracle_features(*given, responses, num_rows=1)
  true = references.oracle(*given, num_rows=1)
  np.testing.assert_allclose(read.slate_scores, true.slate_scores, atol=0.05)
  assert choice_model.correct(read.log_probs[0], tasks.query).mean() > 0.94


def test_types_are_predicted_without_slates():
  population = toy.two_types(num_users=3)
  tasks, _ = adaptation.episodes(population, split='test', num_users=3)
  made = references.types(tasks, population.simulation, shots=(0, 2))
  assert made.log_probs.shape == (2, 3, 16, 2)
  assert made.slate_scores.shape == (2, 3, 0, 0)
  with pytest.raises(ValueError, match='choice_probabilities is None'):
    references.types(tasks, FACTS, shots=(0,))

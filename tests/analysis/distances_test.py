import evaluation_sets
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.analysis import disagreement, distances
from metapers.analysis.disagreement import Contrasts
from metapers.analysis.distances import Distances
from metapers.data import synthetic
from metapers.evaluation import estimates, intervals
from metapers.populations import toy
from metapers.populations.reward_ensemble import reward_ensemble


def weights_of(size, seed, concentration=1.0, num_models=4):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.dirichlet(np.full(num_models, concentration), size), jnp.float32)


def values_of(size, num_models=4):
  return jnp.asarray(np.random.default_rng(5).normal(size=(size, num_models)), jnp.float32)


def test_distances_to_the_nearest_equal_a_loop():
  new, known, values = weights_of(9, 0), weights_of(20, 1), values_of(50)
  l1 = distances.nearest_l1(new, known, chunk_size=4)
  differ = distances.nearest_disagreement(new, known, values, chunk_size=4)
  new, known, values = map(np.asarray, (new, known, values))
  for user in range(9):
    np.testing.assert_allclose(l1[user], np.abs(known - new[user]).sum(-1).min(), rtol=1e-5)
    shares = [np.mean((values @ new[user] > 0) != (values @ other > 0)) for other in known]
    np.testing.assert_allclose(differ[user], min(shares), atol=1e-6)


def test_a_train_user_has_no_distance_from_the_train_users():
  known, values = weights_of(20, 1), values_of(50)
  np.testing.assert_allclose(distances.nearest_l1(known[:3], known), 0, atol=1e-7)
  np.testing.assert_allclose(distances.nearest_disagreement(known[:3], known, values), 0)


def test_users_of_one_reward_model_are_nearer_to_train_users_than_mixed_ones():
  medians = []
  for concentration in (0.01, 1.0):
    new, known = (weights_of(100, seed, concentration) for seed in (0, 1))
    nearest = distances.nearest_disagreement(new, known, values_of(1000))
    medians.append(float(jnp.median(nearest)))
  assert medians[0] < 0.001 < 0.01 < medians[1]


@pytest.mark.parametrize(('num_users', 'size'), [(7, 7), (0, distances.SAMPLE_OF_STREAM)])
def test_train_weights_are_of_the_known_users_or_of_a_sample_of_the_stream(num_users, size):
  sizes = {'num_support': 2, 'num_query': 2, 'num_slates': 0, 'num_held_out': 3}
  table = synthetic.synthetic_store(num_prompts=60)
  population = reward_ensemble(table, num_users=num_users, **sizes)
  found = distances.train_weights(population)
  users = population.simulation.users(population.arrays, 'train')
  np.testing.assert_array_equal(found, users.weights[:size])
  assert len(found) == size


def test_users_without_weights_have_no_distances():
  with pytest.raises(ValueError, match='synthetic users of two types'):
    distances.train_weights(toy.two_types())


def test_users_are_grouped_by_distance_and_by_entropy():
  weights = jnp.asarray(np.tile([[1, 0, 0], [0.5, 0.5, 0]], (10, 1)), jnp.float32)
  far = np.concatenate([np.zeros(10), np.linspace(0.1, 0.2, 10)]).astype(np.float32)
  found = distances.user_groups(weights, Distances(far, far * 2, 1500))
  assert list(found) == ['nearest_disagreement', 'nearest_l1', 'entropy']
  assert [one.name for one in found.values()] == list(found)
  assert found['nearest_disagreement'].labels[0] == '0 %'
  assert found['nearest_l1'].labels[0] == '0'
  assert found['entropy'].labels == ('0', '0.693')
  assert 'nearest of 1,500 train users' in found['nearest_l1'].title


def test_users_are_described_by_their_disagreements_and_distances():
  tasks, truth = evaluation_sets.users(num_users=12)
  evaluated = evaluation_sets.evaluation_set(tasks, truth, num_resamples=20)
  ids = evaluated.draws.ids[np.arange(40) % len(evaluated.draws.ids)]
  values = np.asarray(values_of(40, num_models=3))
  contrasts = Contrasts(values, ids, np.ones(40, np.float32))
  known = jnp.concatenate([truth.weights[:6], weights_of(5, 0, num_models=3)])
  near = distances.to_nearest(truth.weights, known, contrasts)
  assert near.num_train == 11
  found = distances.describe_users(evaluated, near, contrasts)
  assert all(samples.shape == (21, 1) for samples in found.values())
  value = {name: intervals.interval(samples, 60)[0, 0] for name, samples in found.items()}
  assert value['nearest_disagreement_none'] >= 0.5
  np.testing.assert_allclose(
    value['nearest_disagreement_mean'], near.disagreement.mean(), rtol=1e-5
  )
  np.testing.assert_allclose(value['nearest_l1_median'], np.sort(near.l1)[5])
  query = disagreement.query_contrasts(tasks, truth)
  for name, where in (('', contrasts), ('_query', query)):
    rate = disagreement.rate(evaluated.draws, truth.weights, where)
    np.testing.assert_array_equal(found[f'disagreement{name}'][:, 0], rate)
    assert value[f'disagreement{name}'] < value[f'contested{name}']
  first, second = distances.in_words(evaluated, found, near, 40)
  for name in ('disagreement', 'disagreement_query', 'contested', 'contested_query'):
    row = estimates.interval(name, found[name], **evaluated.sizes)[:, 0]  # as in results.csv
    assert '{:.1f} % [{:.1f}, {:.1f}]'.format(*(100 * row)) in first
  assert 'The nearest of 11 train users' in second and 'on none of 40.' in second


def test_users_whose_truth_is_unknown_are_not_described():
  tasks, _ = evaluation_sets.users(num_users=4)
  people = estimates.evaluation_set(tasks, num_resamples=5)
  nothing = Contrasts(np.zeros((1, 3), np.float32), np.zeros(1, int), np.ones(1, np.float32))
  with pytest.raises(ValueError, match='evaluation set with truth'):
    distances.describe_users(people, Distances(np.zeros(4), np.zeros(4), 1), nothing)

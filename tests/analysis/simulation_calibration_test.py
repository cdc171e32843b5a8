"""Simulation-based calibration: a right posterior passes, wrong ones do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metapers.analysis import simulation_calibration
from metapers.analysis.simulation_calibration import AS_PREDICTED, EVENNESS, LIKELIHOOD, Draws
from metapers.analysis.study_frame import Whose, value_of
from metapers.core import meta_learner, task
from metapers.core.task import Candidates, Task, Truth

USERS, NUM_TYPES, SAMPLES = 600, 4, 128
TYPES = np.random.default_rng(5).dirichlet(np.ones(3), NUM_TYPES).astype(np.float32) * 3


def learner(*, prior=(1, 1, 1, 1), reads=True):
  """Exact posterior over a few types of users, or one that reads nothing, or of a wrong prior."""
  log_prior = jnp.log(jnp.asarray(prior, jnp.float32) / sum(prior))

  def log_likelihood(given):
    utilities = jnp.einsum('nkd,zd->znk', given.candidates.features, TYPES)
    log_p = jax.nn.log_softmax(utilities, -1)
    chosen = jnp.take_along_axis(log_p, given.choice[None, :, None], 2)[..., 0]
    return jnp.sum(jnp.where(given.mask[None], chosen, 0), -1)

  def adapt(params, support, context, key):
    logits = log_prior + (log_likelihood(support) if reads else 0)
    return jax.random.categorical(key, jnp.broadcast_to(logits, (SAMPLES, NUM_TYPES)))

  def sample(params, state, candidates):
    return jnp.einsum('nkd,sd->snk', candidates.features, jnp.asarray(TYPES)[state])

  def score(params, state, candidates):
    return sample(params, state, candidates).mean(0)

  def predict(params, state, candidates):
    return jnp.log(jax.nn.softmax(sample(params, state, candidates), -1).mean(0))

  return meta_learner.from_adapt_score(lambda key: {}, adapt, score, predict=predict, sample=sample)


@pytest.fixture(scope='module')
def users():
  rng = np.random.default_rng(6)
  weights = TYPES[rng.integers(NUM_TYPES, size=USERS)]
  parts = []
  for count in (8, 6):
    features = rng.normal(size=(USERS, count, 2, 3)).astype(np.float32)
    gap = np.einsum('tnkd,td->tnk', features, weights)
    choice = (gap + rng.gumbel(size=gap.shape)).argmax(-1)
    shown = Candidates(jnp.asarray(features), jnp.ones(gap.shape, bool))
    parts.append(task.choices(shown, jnp.asarray(choice)))
  tasks = Task(*parts, jnp.arange(USERS, dtype=jnp.int32), jnp.zeros((USERS, 0), jnp.float32))
  shares = jnp.asarray(weights / weights.sum(1, keepdims=True))
  empty = [None] * (len(Truth._fields) - 1)
  return tasks, Truth(shares, *empty)


def checked(users, made, names=('a', 'b', 'c')):
  return simulation_calibration.draw(
    made, {}, *users, shots=(0, 8), reward_models=names, chunk_size=100
  )


@pytest.fixture(scope='module')
def right(users):
  return checked(users, learner())


def p_values(found):
  frame = simulation_calibration.study(found, (0, 8), Whose('priors'))
  own = frame[frame['statistic'] == 'p of uniform ranks']
  return dict(zip(own['group'], own['value']))


def test_a_right_posterior_passes_in_every_quantity(right):
  found = p_values(right)
  assert len(found) == 2 * 6 and min(found.values()) > 0.05 / len(found)


def test_a_wrong_prior_is_seen_in_the_weights(users):
  found = p_values(checked(users, learner(prior=(8, 1, 1, 1))))
  assert min(found[f'weight of {name}, k = 0'] for name in 'abc') < 1e-3


def test_a_learner_that_never_looks_passes(users):
  found = p_values(checked(users, learner(reads=False)))
  assert min(found.values()) > 0.05 / len(found)


def test_quantities_are_those_of_a_loop(users):
  tasks, truth = users
  small = jax.tree.map(lambda x: x[:3], (tasks, truth.weights))
  one = learner()
  few = small[0], truth._replace(weights=small[1])
  found = simulation_calibration.draw(one, {}, *few, shots=(8,), num_draws=128)
  key = jax.random.key(0)
  for user in range(3):
    person = task.take(tasks, user)
    keys = jax.random.split(jax.random.fold_in(key, user), 3)
    state = one.adapt({}, person.support, person.context, keys[0])
    log_p = np.asarray(one.predict({}, state, person.query.candidates))
    choice = np.asarray(person.query.choice)
    expected = log_p[np.arange(6), choice].sum()
    assert found[LIKELIHOOD].truth[0, user] == pytest.approx(expected, rel=1e-4)
    assert found[AS_PREDICTED].truth[0, user] == (log_p.argmax(-1) == choice).sum()
  drawn = found[AS_PREDICTED].draws
  assert drawn.shape == (1, 3, 128) and set(np.unique(drawn)) <= set(range(7))
  assert EVENNESS not in found


def test_weights_are_draws_of_the_posterior(right, users):
  assert right['weight of a'].draws.shape == (2, USERS, 99)
  shares = TYPES / TYPES.sum(1, keepdims=True)
  assert all(np.isclose(x, shares[:, 0], atol=1e-5).any() for x in right['weight of a'].draws[1, 3])
  expected = stats.entropy(np.asarray(users[1].weights[7]))
  assert right[EVENNESS].truth[0, 7] == pytest.approx(expected, rel=1e-4)


def test_ranks_count_smaller_draws_and_ties_take_any_place():
  drawn = Draws(np.full((1, 5000), 2.0), np.tile([1.0, 2, 2, 5], (1, 5000, 1)))
  found = simulation_calibration.ranks(drawn)[0]
  assert set(found) == {1, 2, 3}
  np.testing.assert_allclose(np.bincount(found)[1:] / 5000, 1 / 3, atol=0.03)


def test_bands_hold_uniform_ranks_all_together_at_their_level():
  known = simulation_calibration.bands(200, 19)
  rng = np.random.default_rng(7)
  inside, p = [], []
  for _ in range(600):
    found = rng.integers(20, size=200)
    share = simulation_calibration.below(found, 19) / 200
    inside.append(((share >= known.low) & (share <= known.high)).all())
    p.append(simulation_calibration.p_value(found, known))
  assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
  assert stats.kstest(p, 'uniform').pvalue > 1e-3


def test_tail_probabilities_are_binomial():
  places = np.array([0.2, 0.7])
  found = simulation_calibration.smallest_tail(np.array([[3, 5], [2, 7]]), 10, places)
  for row, counts in enumerate(([3, 5], [2, 7])):
    tails = [
      min(stats.binom.cdf(c, 10, p), stats.binom.sf(c - 1, 10, p)) for c, p in zip(counts, places)
    ]
    assert found[row] == pytest.approx(min(1, 2 * min(tails)))


def test_coverage_is_the_share_of_truths_in_the_middle():
  found = np.arange(100)
  for level in (0.5, 0.8, 0.95):
    assert simulation_calibration.covered(found, level).mean() == pytest.approx(level)
  narrow = Draws(np.zeros((1, 50)), np.ones((1, 50, 99)))
  frame = simulation_calibration.study({'x': narrow}, (0,), Whose('priors'))
  assert value_of(frame, statistic='coverage of 95%') == 0
  assert value_of(frame, statistic='p of uniform ranks') < 0.01

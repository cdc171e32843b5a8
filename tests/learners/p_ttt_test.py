import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import choice_model, task
from metapers.core.task import Candidates
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp

D, N, WIDTH = 3, 6, 5
KEY = jax.random.key(0)


def made(**options):
  sizes = {'num_features': D, 'hidden': (4,), 'width': WIDTH}
  learner = learners.make('p_ttt', **sizes | options)
  return learner, learner.init(KEY)


def support(num_candidates=2, seed=1):
  key_features, key_choice, key_weight = jax.random.split(jax.random.key(seed), 3)
  shape = (N, num_candidates)
  candidates = Candidates(jax.random.normal(key_features, (*shape, D)), jnp.ones(shape, bool))
  choice = jax.random.randint(key_choice, (N,), 0, num_candidates)
  return task.choices(candidates, choice, weight=jax.random.uniform(key_weight, (N,)))


def keys_of(params, candidates):
  return embed(linear_mlp(D, (4,), WIDTH), params['keys'], candidates)


def adapt(learner, params, given):
  return learner.adapt(params, given, jnp.zeros(0), KEY)


def test_flipping_all_labels_turns_the_shift_into_its_negative_to_the_bit():
  learner, params = made()
  params['weights'] = jnp.zeros(WIDTH)  # the shift alone
  given, query = support(), support(seed=2).candidates
  states = [
    adapt(learner, params, each) for each in (given, given._replace(choice=1 - given.choice))
  ]
  np.testing.assert_array_equal(states[0], -states[1])
  shifts = [learner.score(params, state, query) for state in states]
  np.testing.assert_array_equal(shifts[0], -shifts[1])
  assert float(jnp.abs(shifts[0]).max()) > 1e-3


def test_utilities_are_those_of_the_weights_written_to():
  learner, params = made()
  given, query = support(), support(seed=2).candidates
  keys, rate = np.asarray(keys_of(params, given.candidates)), np.exp(params['log_rate'])
  weights = np.asarray(params['weights']).copy()
  for n in range(N):  # one write after another
    chosen = int(given.choice[n])
    weights += rate * float(given.weight[n]) * (keys[n, chosen] - keys[n, 1 - chosen])
  made_by_it = learner.score(params, adapt(learner, params, given), query)
  np.testing.assert_allclose(made_by_it, keys_of(params, query) @ weights, rtol=1e-4, atol=1e-5)


def test_a_write_is_a_gradient_step_from_weights_of_zero():
  learner, params = made()
  given = support()
  keys, mask = keys_of(params, given.candidates), given.candidates.mask

  def nll(weights):
    return choice_model.total_nll(choice_model.log_probs(keys @ weights, mask), given)

  expected = -2 * jnp.exp(params['log_rate']) * jax.grad(nll)(jnp.zeros(WIDTH))
  np.testing.assert_allclose(adapt(learner, params, given), expected, rtol=1e-4, atol=1e-6)


def test_of_more_candidates_the_mean_of_the_others_is_taken_away():
  learner, params = made()
  given = support(num_candidates=3)
  keys = np.asarray(keys_of(params, given.candidates))
  expected = np.zeros(WIDTH)
  for n in range(N):
    chosen = int(given.choice[n])
    others = [keys[n, k] for k in range(3) if k != chosen]
    expected += float(given.weight[n]) * (keys[n, chosen] - np.mean(others, 0))
  expected *= np.exp(params['log_rate'])
  np.testing.assert_allclose(adapt(learner, params, given), expected, rtol=1e-4, atol=1e-5)


def test_the_rate_is_learned():
  learner, params = made()
  given = task.Task(support(), support(seed=2), jnp.asarray(0), jnp.zeros(0))
  gradient = jax.grad(lambda p: learner.loss(p, given, KEY)[0])(params)
  assert abs(float(gradient['log_rate'])) > 1e-4
  np.testing.assert_allclose(jnp.exp(made(initial_rate=0.2)[1]['log_rate']), 0.2, rtol=1e-6)


def test_adapting_differentiates_nothing():
  learner, params = made()
  program = str(jax.make_jaxpr(lambda p, s: adapt(learner, p, s))(params, support()))
  # A linear map turns its own few columns, behind a barrier; gradients would turn more.
  assert program.count('= transpose[') == program.count('= optimization_barrier')
  assert 'custom_vjp' not in program and 'scan' not in program


@pytest.mark.parametrize(('name', 'value'), [('width', 0), ('initial_rate', 0.0)])
def test_impossible_options_are_refused(name, value):
  with pytest.raises(ValueError, match=f'{name} must be'):
    made(**{name: value})

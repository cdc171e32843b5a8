"""What learners make of ties: the likelihood, and readings of answers as pairs beside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special

from metapers import learners
from metapers.core import outcomes, task
from metapers.core.outcomes import Answers
from metapers.core.task import Candidates, Task
from metapers.testing import checks, contract
from metapers.testing import subject as subjects

D, USERS, SUPPORT, QUERY = 3, 64, 8, 8
KINDS = ('tie', 'both_bad')
KNOWN = jax.random.key(7)  # of their weights
ANSWERS = Answers(KINDS, (2.0, -2.0))  # many ties, and few texts that are bad enough


@functools.partial(jax.jit, static_argnums=1)
def people(key, num_users=USERS, key_weights=None):
  """Tasks of users with weights on a simplex who answer by Davidson; their query is forced."""
  key_features, key_choice, key_new = jax.random.split(key, 3)
  key_weights = key_new if key_weights is None else key_weights
  weights = 6 * jax.random.dirichlet(key_weights, jnp.full(D, 0.4), (num_users,))
  shape = (num_users, SUPPORT + QUERY, 2, D)
  texts = outcomes.widened(jax.random.normal(key_features, shape), KINDS)
  shown = outcomes.expand(Candidates(texts, jnp.ones(shape[:-1], bool)), KINDS)
  offsets = jnp.broadcast_to(jnp.array(ANSWERS.offsets), (num_users, len(KINDS)))
  weights = jnp.concatenate([weights, offsets], -1)  # those of the flags are the users' offsets
  utilities = jnp.einsum('unkd,ud->unk', shown.features, weights)
  is_forced = (np.arange(SUPPORT + QUERY) >= SUPPORT)[:, None] & (np.arange(4) >= 2)[None]
  mask = jnp.asarray(np.broadcast_to(~is_forced, shown.mask.shape))
  logits = jnp.where(mask, utilities, -jnp.inf)
  answer = jax.random.categorical(key_choice, logits)
  given = task.choices(Candidates(shown.features, mask), answer)
  support = jax.tree.map(lambda x: x[:, :SUPPORT], given)
  query = jax.tree.map(lambda x: x[:, SUPPORT:], given)
  return Task(support, query, jnp.arange(num_users), jnp.zeros((num_users, 0)))


def trained(learner, tasks, num_steps, key_weights):
  key = jax.random.key(0)

  @jax.jit
  def run():
    params = learner.start(learner.init(key), tasks, key)
    optimizer = optax.adam(0.01)

    def step(carry, key):
      params, state = carry
      keys = jax.random.split(key, USERS)
      answers = people(key, USERS, key_weights)

      def loss(params):
        return jax.vmap(learner.loss, (None, 0, 0))(params, answers, keys)[0].mean()

      updates, state = optimizer.update(jax.grad(loss)(params), state)
      return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(key, num_steps)
    params = jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]
    return learner.prepare(params, tasks, key)

  return run()


def query_nll(learner, params):
  tasks = people(jax.random.key(1), 1000)

  def one(each):
    state = learner.adapt(params, each.support, each.context, jax.random.key(0))
    log_p = learner.predict(params, state, each.query.candidates)
    return -jnp.take_along_axis(log_p, each.query.choice[:, None], -1).mean()

  return np.asarray(jax.jit(jax.vmap(one))(tasks), np.float64)


SIZES = {'num_features': D + len(KINDS), 'num_users': USERS}
BASES = {
  'gaussian_prior': ({'num_features': D + len(KINDS)}, {}, 0),
  'low_rank': (SIZES, {'rank': 4}, 300),
  'cnp': ({'num_features': D + len(KINDS)}, {'hidden': 32, 'width': 8}, 1500),
}


@pytest.mark.parametrize('name', BASES)
def test_the_likelihood_of_ties_predicts_better_than_without_them(name):
  sizes, options, num_steps = BASES[name]
  known = people(jax.random.key(0), USERS, KNOWN)
  assert 0.15 < (known.support.choice == 2).mean() < 0.6
  whole = learners.make(name, **sizes, **options)
  given = {'outcomes': KINDS, 'base': name, 'options': options, 'reading': 'dropped'}
  dropped = learners.make('as_pairs', **SIZES, **given)
  worse, better = (
    query_nll(one, trained(one, known, num_steps, KNOWN if name == 'low_rank' else None))
    for one in (dropped, whole)
  )
  gain = worse - better
  print(name, better.mean(), worse.mean(), gain.mean(), gain.std() / np.sqrt(gain.size))
  assert gain.mean() > 2 * gain.std() / np.sqrt(gain.size)


def davidson_nll(weights, texts, answers):
  """-log P of one user's answers and of w ~ N(0, I), written from strengths."""
  a, b = np.exp(texts @ weights[:D]).T
  tie, neither = np.exp(weights[D]) * np.sqrt(a * b), np.exp(weights[D + 1])
  chosen = np.stack([a, b, tie, neither * np.ones_like(a)])[answers, range(len(a))]
  return -np.log(chosen / (a + b + tie + neither)).sum() + weights @ weights / 2


def test_the_mode_is_that_of_a_fit_of_davidsons_model():
  tasks = people(jax.random.key(2), 1)
  learner = learners.make('gaussian_prior', num_features=D + 2)
  params = learner.init(jax.random.key(0))  # the prior is N(0, I)
  one = task.take(tasks, 0)
  state = learner.adapt(params, one.support, one.context, jax.random.key(0))
  texts = np.asarray(one.support.candidates.features, np.float64)[:, :2, :D]
  given = texts, np.asarray(one.support.choice)
  found = optimize.minimize(davidson_nll, np.zeros(D + 2), given, tol=1e-10).x
  np.testing.assert_allclose(state.mean, found, atol=1e-4)
  gap = np.diff(np.asarray(one.query.candidates.features)[:, :2, :D] @ found[:D], axis=-1)[:, 0]
  scores = learner.score(params, state, one.query.candidates)
  np.testing.assert_allclose(
    special.expit(scores[:, 1] - scores[:, 0]), special.expit(gap), atol=1e-4
  )


def test_halves_are_the_base_on_half_comparisons():
  tasks = people(jax.random.key(3), 1)
  one = task.take(tasks, 0)
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS)
  base = learners.make('gaussian_prior', num_features=D)
  params, key = base.init(jax.random.key(0)), jax.random.key(0)
  rows, choice, weight = [], [], []
  for n, answer in enumerate(np.asarray(one.support.choice).tolist()):
    chosen = {0: [0], 1: [1], 2: [0, 1], 3: []}[answer]
    rows += [n] * len(chosen)
    choice += chosen
    weight += [0.5] * 2 if answer == 2 else [1.0] * len(chosen)
  pairs = one.support.candidates.features[jnp.array(rows), :2, :D]
  given = task.choices(
    Candidates(pairs, jnp.ones(pairs.shape[:2], bool)), jnp.array(choice), weight=jnp.array(weight)
  )
  expected = base.adapt(params, given, one.context, key)
  made = learner.adapt(params, one.support, one.context, key)
  np.testing.assert_allclose(made.mean, expected.mean, atol=1e-4)
  log_p = learner.predict(params, made, one.query.candidates)
  asked = one.query.candidates
  texts = Candidates(asked.features[:, :2, :D], asked.mask[:, :2])
  np.testing.assert_allclose(log_p[:, :2], base.predict(params, expected, texts), atol=1e-3)
  np.testing.assert_array_equal(np.exp(log_p[:, 2:]), 0)


def test_of_a_slate_all_texts_are_scored_by_the_base():
  one = task.take(people(jax.random.key(3), 1), 0)
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS)
  base = learners.make('gaussian_prior', num_features=D)
  params, key = base.init(jax.random.key(0)), jax.random.key(0)
  state = learner.adapt(params, one.support, one.context, key)
  texts = jax.random.normal(jax.random.key(1), (3, 5, D))
  slates = Candidates(texts, jnp.ones((3, 5), bool))
  flagged = slates._replace(features=outcomes.widened(texts, KINDS))
  for name in ('score', 'predict', 'sample'):
    found = getattr(learner, name)(params, state, flagged)
    expected = getattr(base, name)(params, state, slates)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('base', ['gaussian_prior', 'pooled'])
def test_utilities_foresee_no_answers_that_predictions_do_not(base):
  one = task.take(people(jax.random.key(3), 1), 0)
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS, base=base)
  params = learner.init(jax.random.key(0))
  state = learner.adapt(params, one.support, one.context, jax.random.key(0))
  asked = one.support.candidates
  assert asked.mask.all()
  for scores in (learner.score(params, state, asked), *learner.sample(params, state, asked)):
    np.testing.assert_array_equal(jax.nn.softmax(scores)[:, 2:], 0)


def test_draws_foresee_no_answers_that_predictions_do_not():
  one = task.take(people(jax.random.key(3), 1), 0)
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS, options={'num_samples': 500})
  params = learner.init(jax.random.key(0))
  state = learner.adapt(params, one.support, one.context, jax.random.key(0))
  asked = one.support.candidates
  assert asked.mask.all()
  drawn = jax.nn.softmax(learner.sample(params, state, asked)).mean(0)
  np.testing.assert_array_equal(drawn[:, 2:], 0)
  np.testing.assert_allclose(drawn, np.exp(learner.predict(params, state, asked)), atol=0.05)


@pytest.mark.parametrize('base', ['gaussian_prior', 'pooled'])
def test_many_answers_that_are_not_foreseen_have_a_finite_likelihood(base):
  one = task.take(people(jax.random.key(3), 1), 0)
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS, base=base)
  params = learner.init(jax.random.key(0))
  state = learner.adapt(params, one.support, one.context, jax.random.key(0))
  asked = one.support.candidates
  log_p = learner.predict(params, state, asked)
  np.testing.assert_array_equal(jnp.exp(log_p)[:, 2:], 0)
  assert jnp.isfinite(1e3 * log_p).all() and jnp.isfinite(log_p.sum())
  masked = asked._replace(mask=asked.mask.at[:, 3].set(False))
  assert (learner.predict(params, state, masked)[:, 3] == jnp.finfo(jnp.float32).min).all()


@pytest.mark.parametrize('reading', ['dropped', 'halves'])
def test_a_learner_that_reads_in_order_reads_each_answer_once(reading):
  one = task.take(people(jax.random.key(3), 1), 0)
  given = outcomes.as_pairs(one.support, KINDS, reading)
  rows = np.repeat(np.arange(SUPPORT), len(given.choice) // SUPPORT)[np.asarray(given.mask)]
  expected = {0: 1, 1: 1, 2: 2 if reading == 'halves' else 0, 3: 0}
  answers = np.asarray(one.support.choice).tolist()
  assert rows.tolist() == [n for n, answer in enumerate(answers) for _ in range(expected[answer])]


def test_of_two_real_candidates_the_prediction_is_that_of_a_pair():
  one = task.take(people(jax.random.key(4), 1), 0)
  learner = learners.make('gaussian_prior', num_features=D + 2)
  params = learner.init(jax.random.key(0))
  state = learner.adapt(params, one.support, one.context, jax.random.key(0))
  turned = jax.tree.map(lambda x: jnp.roll(x, 1, 1), one.query.candidates)
  texts = jax.tree.map(lambda x: x[:, :2], one.query.candidates)
  expected = learner.predict(params, state, texts)
  np.testing.assert_allclose(learner.predict(params, state, turned)[:, 1:3], expected, atol=1e-5)


def test_unknown_readings_are_refused():
  with pytest.raises(ValueError, match="dropped or halves, got 'thirds'"):
    learners.make('as_pairs', num_features=3, reading='thirds')


def test_without_outcomes_it_is_the_base():
  shapes = (jax.eval_shape(learners.make(name, num_features=3).init, jax.random.key(0))
            for name in ('as_pairs', 'gaussian_prior'))  # fmt: skip
  assert next(shapes) == next(shapes)


@pytest.mark.parametrize('kinds', [('tie', 'both_bad'), ('tie', 'strong')])
def test_the_base_is_one_of_texts_alone_so_that_any_can_be(kinds):
  rng = np.random.default_rng(0)
  texts = jnp.asarray(rng.normal(size=(6, 2, D)), jnp.float32)
  shown = Candidates(outcomes.widened(texts, kinds), jnp.ones((6, 2), bool))
  shown = outcomes.expand(shown, kinds)
  given = task.choices(shown, jnp.asarray(rng.integers(shown.mask.shape[-1], size=6)))
  learner = learners.make(
    'as_pairs', num_features=D + 2, outcomes=kinds, base='dirichlet_mixture', reading='dropped'
  )
  base = learners.make('dirichlet_mixture', num_features=D)
  key, nothing = jax.random.key(0), jnp.zeros(0)
  params = learner.init(key)
  state = learner.adapt(params, given, nothing, key)
  side = {0: 0, 1: 1, 3: 0, 4: 1} if 'strong' in kinds else {0: 0, 1: 1}
  read = [(n, side[answer]) for n, answer in enumerate(given.choice.tolist()) if answer in side]
  rows, choice = (jnp.array(each) for each in zip(*read, strict=True))
  pairs = Candidates(texts, jnp.ones((6, 2), bool))
  plain = task.choices(jax.tree.map(lambda x: x[rows], pairs), choice)
  expected = base.predict(params, base.adapt(params, plain, nothing, key), pairs)
  found = learner.predict(params, state, shown)
  np.testing.assert_allclose(found[:, :2], expected, atol=1e-4)
  np.testing.assert_array_equal(np.exp(found[:, 2:]), 0)


@pytest.mark.parametrize('reading', ['dropped', 'halves'])
def test_prepare_keeps_as_many_comparisons_as_init_has_places_for(reading):
  known = people(jax.random.key(0))
  sizes = {'num_histories': USERS, 'history_length': SUPPORT}
  learner = learners.make(
    'as_pairs', **SIZES, **sizes, outcomes=KINDS, base='copl', reading=reading
  )
  params = learner.init(jax.random.key(0))
  prepared = learner.prepare(params, known, KNOWN)
  shapes = (jax.tree.map(jnp.shape, each) for each in (params, prepared))
  assert next(shapes) == next(shapes)


CLAIMS = (  # of the contract, all that need no third text and no training
  checks.state_shapes_do_not_depend_on_data,
  checks.padding_changes_nothing,
  checks.order_changes_nothing,
  checks.empty_support_is_finite,
  checks.masked_nan_reaches_nothing,
  checks.jit_and_vmap_change_nothing,
  checks.weight_two_is_the_comparison_twice,
  checks.weight_zero_is_a_masked_comparison,
  checks.start_and_prepare_keep_forms,
)


@functools.cache
def contract_subject():
  """What the contract examines, of people who answer by Davidson: its own have to choose."""
  learner = learners.make('as_pairs', **SIZES, outcomes=KINDS)
  tasks = jax.device_get(people(jax.random.key(1)))
  excused = contract.Exceptions(trained=False)
  return subjects.subject_of(learner, excused, people(jax.random.key(0)), tasks, tasks)


@pytest.mark.parametrize('claim', CLAIMS, ids=lambda claim: claim.__name__)
def test_contract_where_people_say_more_than_a_choice(claim):
  claim(contract_subject())

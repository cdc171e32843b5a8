"""The average of learners: weights against brute force, one member, the prior, refusals."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import surprise, task
from metapers.core.surprise import LOG_THRESHOLD, Surprise
from metapers.core.task import Candidates
from metapers.learners import hedge, own_fit, prequential
from metapers.learners.prequential import Groups
from metapers.testing.subject import quick_jit

D, N = 3, 5
SMALL = {
  'cnp': {'hidden': 4, 'width': 2},
  'other': {'name': 'cnp', 'hidden': 3, 'width': 2},
  'plain': {'name': 'pooled', 'hidden': (3,)},
}
KEY, NOTHING = jax.random.key(1), jnp.zeros(0)


def comparisons(size=N, seed=0, masked=()):
  rng = np.random.default_rng(seed)
  features = jnp.asarray(2 * rng.normal(size=(size, 2, D)), jnp.float32)
  mask = jnp.ones(size, bool).at[jnp.asarray(masked, int)].set(False)
  choice = jnp.asarray(rng.integers(0, 2, size))
  weight = jnp.asarray(rng.integers(1, 4, size), jnp.float32)
  return task.choices(Candidates(features, jnp.ones((size, 2), bool)), choice, mask, weight)


def made(**options):
  learner = learners.make(
    'hedge', num_features=D, **({'members': SMALL, 'own_from': 'cnp'} | options)
  )
  return learner, learner.init(jax.random.key(0))


@functools.cache
def compiled(function):
  return quick_jit(function)


def adapted(learner, params, support):
  return compiled(learner.adapt)(params, support, NOTHING, KEY)


def brute_force(learner, params, support):
  """Returns the evidence of each comparison, from a support in which what follows is NaN."""

  def value(n):
    later = jnp.arange(support.choice.size) >= n
    features = jnp.where(later[:, None, None], jnp.nan, support.candidates.features)
    before = support._replace(
      candidates=support.candidates._replace(features=features), mask=support.mask & ~later
    )
    state = adapted(learner, params, before)
    log_p = compiled(learner.predict)(params, state, support.candidates)[n]
    return float(support.weight[n] * log_p[support.choice[n]]) if support.mask[n] else 0.0

  return np.array([value(n) for n in range(support.choice.size)])


def normalised(log_weights):
  return np.exp(log_weights - np.logaddexp.reduce(log_weights))


@pytest.fixture(scope='module')
def hedged():
  learner, params = made()
  params['log_prior'] = jnp.log(jnp.array([0.5, 0.2, 0.2, 0.1]))
  own = {row: learners.make(given.get('name', row), num_features=D,
                            **{k: v for k, v in given.items() if k != 'name'})
         for row, given in SMALL.items()}  # fmt: skip
  support = comparisons(masked=(2,))
  values = [brute_force(own[row], params['members'][row], support) for row in SMALL]
  return learner, params, support, np.stack(values, -1), own


def test_weights_are_the_evidence_of_each_choice_given_those_before_it(hedged):
  learner, params, support, values, _ = hedged
  found = adapted(learner, params, support).evidence
  np.testing.assert_allclose(found.log_evidence[:3], values.sum(0), rtol=1e-4, atol=1e-5)
  prior = np.asarray(params['log_prior'], np.float64)
  wanted = normalised(prior + np.append(values.sum(0), found.log_evidence[3]))
  np.testing.assert_allclose(np.exp(found.log_weights), wanted, rtol=1e-4)


def test_weight_0_is_no_comparison(hedged):
  learner, params, support, *_ = hedged
  weightless = support._replace(mask=jnp.ones(N, bool), weight=support.weight.at[2].set(0))
  found, wanted = (adapted(learner, params, given) for given in (weightless, support))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, wanted)


def test_switching_sums_over_all_paths_through_the_members():
  rate, prior = 0.3, np.array([0.6, 0.3, 0.1])
  values = np.random.default_rng(0).normal(size=(3, 3))
  found = prequential.from_first(
    jnp.asarray(values, jnp.float32), jnp.ones(3, bool),
    log_prior=jnp.log(jnp.asarray(prior, jnp.float32)), groups=Groups((0, 1, 2)), switching=rate,
  )  # fmt: skip
  step = (1 - rate) * np.eye(3) + rate * prior[None]
  total = np.zeros(3)  # of the member that predicts what comes next
  for path in itertools.product(range(3), repeat=4):
    moves = np.prod([step[a, b] for a, b in itertools.pairwise(path)])
    total[path[-1]] += prior[path[0]] * moves * np.exp(sum(values[n, path[n]] for n in range(3)))
  np.testing.assert_allclose(np.exp(found.log_weights), total / total.sum(), rtol=1e-5)


def test_predictions_and_utilities_are_the_members_by_their_weights(hedged):
  learner, params, support, _, own = hedged
  state = adapted(learner, params, support)
  query, weights = comparisons(N, seed=3).candidates, np.exp(state.evidence.log_weights)
  members = own | {'own': own_fit.own_fit(own['cnp'], scale=1.0)}
  given = params['members'] | {'own': params['members']['cnp']}
  parts = [(one, given[row], adapted(one, given[row], support)) for row, one in members.items()]
  p = sum(w * np.exp(one.predict(q, s, query)) for w, (one, q, s) in zip(weights, parts))
  u = sum(w * np.asarray(one.score(q, s, query)) for w, (one, q, s) in zip(weights, parts))
  np.testing.assert_allclose(np.exp(learner.predict(params, state, query)), p, rtol=1e-4)
  np.testing.assert_allclose(learner.score(params, state, query), u, rtol=1e-3, atol=1e-4)


def test_draws_are_each_members_as_often_as_its_share_asks():
  drawn = [jnp.full((count, 1, 1), 10.0 * m) + jnp.arange(count)[:, None, None]
           for m, count in enumerate((1, 3))]  # fmt: skip
  found = hedge.allotted(drawn, jnp.array([0.25, 0.75]), 8)[:, 0, 0].tolist()
  assert found[:2] == [0, 0]
  assert sorted(found[2:]) == [10, 10, 11, 11, 12, 12]


def test_draws_that_are_sorted_are_taken_from_all_of_them():
  sorted_draws, others = jnp.repeat(jnp.array([-1.0, 1.0]), 32), jnp.full(64, 5.0)
  drawn = [x[:, None, None] for x in (sorted_draws, others)]
  found = np.asarray(hedge.allotted(drawn, jnp.array([0.5, 0.5]), 64))[:, 0, 0]
  np.testing.assert_array_equal(np.bincount(found.astype(int) + 1), [16, 0, 16, 0, 0, 0, 32])


@pytest.mark.parametrize('row', ['cnp', 'latent_np', 'lookup'])
def test_a_hedge_of_one_is_that_learner(row):
  kwargs = {'lookup': {'hidden': (3,)}}.get(row, {'hidden': 4, 'width': 2})
  sizes = {'num_features': D} | ({'num_histories': 3} if row == 'lookup' else {})
  learner = learners.make('hedge', **sizes, members={row: kwargs}, own_from='')
  alone, params = learners.make(row, **sizes, **kwargs), learner.init(jax.random.key(0))
  own, support, query = params['members'][row], comparisons(), comparisons(7, seed=3).candidates
  state, other = (adapted(one, p, support) for one, p in ((learner, params), (alone, own)))
  np.testing.assert_allclose(
    learner.predict(params, state, query), alone.predict(own, other, query), atol=1e-5
  )
  np.testing.assert_allclose(
    learner.score(params, state, query), alone.score(own, other, query), atol=1e-5
  )
  episode = task.Task(support, comparisons(4, seed=2), jnp.int32(0), NOTHING)
  found, wanted = (
    compiled(one.loss)(p, episode, KEY) for one, p in ((learner, params), (alone, own))
  )
  named = {f'{row}_{name}': float(value) for name, value in wanted[1].items()}
  assert float(found[0]) == pytest.approx(float(wanted[0]))
  assert {name: float(value) for name, value in found[1].items()} == pytest.approx(named)


def test_where_all_members_have_update_so_has_the_hedge():
  both = {'lookup': {'hidden': (3,)}, 'pooled': {'hidden': (3,)}}
  learner = learners.make(
    'hedge', num_features=D, num_histories=3, members=both, own_from='', outside=('pooled',),
    switching=0.1,
  )  # fmt: skip
  params, support = learner.init(jax.random.key(0)), comparisons(masked=(2,))
  state = adapted(learner, params, task.with_shots(support, 0))
  for n in range(N):
    one = task.take(support, jnp.array([n]))
    state = compiled(learner.update)(params, state, one, NOTHING, KEY)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    state, adapted(learner, params, support),
  )  # fmt: skip
  assert made()[0].update is None


@pytest.mark.parametrize('base', ['pooled', 'gaussian_prior'])
def test_the_own_fit_of_nothing_is_less_sure_than_the_utilities_of_its_base(base):
  base = learners.make(base, num_features=D)
  params, asked = base.init(jax.random.key(0)), comparisons().candidates
  if 'mean' in params:
    params['mean'] = jnp.array([3.0, -1.0, 0.5])
  nothing, own = comparisons(masked=range(N)), own_fit.own_fit(base, scale=0.5)
  utilities = base.score(params, base.adapt(params, nothing, NOTHING, KEY), asked)
  found = np.exp(own.predict(params, own.adapt(params, nothing, NOTHING, KEY), asked))[:, 0]
  wanted = np.asarray(jax.nn.softmax(utilities))[:, 0]
  assert (np.sign(found - 0.5) == np.sign(wanted - 0.5)).all()
  assert (np.abs(found - 0.5) < np.abs(wanted - 0.5)).all()


def test_the_own_fit_starts_from_its_base_and_is_the_mode_beside_it():
  learner, params = made(members={'cnp': SMALL['cnp']}, own_scale=0.7)
  cnp, own = learners.make('cnp', num_features=D, **SMALL['cnp']), params['members']['cnp']
  support = comparisons()
  none = adapted(learner, params, task.with_shots(support, 0)).members['own']
  np.testing.assert_allclose(none.posterior.mean, 0, atol=1e-6)
  held = adapted(learner, params, support).members['own']
  base = np.asarray(cnp.score(own, adapted(cnp, own, support), support.candidates))
  x, chosen = np.asarray(support.candidates.features), np.asarray(support.choice)
  sign = np.where(chosen == 0, 1, -1)
  w = 0.7 * np.asarray(held.posterior.mean, np.float64)
  margin = sign * ((base + x @ w)[:, 0] - (base + x @ w)[:, 1])
  pull = np.asarray(support.weight) / (1 + np.exp(margin)) * sign
  gradient = w / 0.7**2 - pull @ (x[:, 0] - x[:, 1])
  np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_the_prior_maximises_the_mixture_of_each_group():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(40, 4)) * 2 + np.array([0.5, 0, -1, 3])
  found = np.exp(
    prequential.prior(
      jnp.asarray(values, jnp.float32), Groups((0, 1, 2), (3,)),
      outside_prior=0.2, num_pseudo_users=0.5, num_iterations=500,
    )
  )  # fmt: skip
  assert found[3] == pytest.approx(0.2)
  grid = np.linspace(0.005, 0.99, 150)
  shares = np.array([(a, b, 1 - a - b) for a in grid for b in grid if a + b < 0.998])
  likelihood = np.log(np.exp(values[:, :3]) @ shares.T).sum(0) + 0.5 * np.log(shares).sum(1)
  np.testing.assert_allclose(found[:3] / 0.8, shares[likelihood.argmax()], atol=0.01)


def test_nobody_known_leaves_the_members_alike():
  _, params = made(outside_prior=0.25)
  np.testing.assert_allclose(np.exp(params['log_prior']), [0.25, 0.25, 0.25, 0.25])


def test_the_order_in_which_members_are_written_changes_nothing():
  orders = SMALL, dict(reversed(SMALL.items()))
  found, other = (made(members=members, outside=('cnp',))[1] for members in orders)
  jax.tree.map(np.testing.assert_array_equal, found, other)
  assert found['log_prior'].tolist() == pytest.approx(np.log([0.15, 0.35, 0.35, 0.15]).tolist())


def test_preparing_fits_the_prior_to_the_known_users():
  learner, params = made(
    members={row: SMALL[row] for row in ('cnp', 'plain')},
    own_from='',
    num_prior_users=3,
    num_prior_shots=2,
  )
  users = [comparisons(seed=seed, masked=(0,)) for seed in range(4)]
  support = jax.tree.map(lambda *x: jnp.stack(x), *users)
  query = jax.tree.map(lambda x: x[:, :0], support)
  histories = task.Task(support, query, jnp.arange(4), jnp.zeros((4, 0)))
  found = learner.prepare(params, histories, KEY)['log_prior']
  values = [adapted(learner, params, task.with_shots(one, 2)).evidence.log_evidence
            for one in users[:3]]  # fmt: skip
  wanted = prequential.prior(
    jnp.stack(values), Groups((0, 1)), outside_prior=0.3, num_pseudo_users=1.0
  )
  np.testing.assert_allclose(found, wanted, atol=1e-4)
  assert abs(found[0] - found[1]) > 0.01


def test_a_member_that_prepare_makes_alone_has_no_loss():
  prepared = {'members': SMALL | {'plain': {'name': 'lookup', 'hidden': (3,)}}, 'num_histories': 2}
  learner, params = made(untrained=('plain',), **prepared)
  whole, _ = made(**prepared)
  support = comparisons()
  episode = task.Task(support, comparisons(seed=1), jnp.zeros((), jnp.int32), NOTHING)

  def gradient_of(one):
    return jax.grad(lambda params: one.loss(params, episode, KEY)[0])(params)['members']

  found, wanted = gradient_of(learner), gradient_of(whole)
  assert any(x.any() for x in jax.tree.leaves(wanted['plain']))
  assert not any(x.any() for x in jax.tree.leaves(found['plain']))
  for row in ('cnp', 'other'):
    jax.tree.map(np.testing.assert_array_equal, found[row], wanted[row])
  assert not any(name.startswith('plain') for name in learner.loss(params, episode, KEY)[1])


def test_the_surprise_is_the_ratio_of_the_groups_and_its_largest_so_far(hedged):
  learner, params, support, *_ = hedged
  prior, ratios = np.asarray(params['log_prior'], np.float64), [0.0]
  for shots in range(1, N):
    found = adapted(learner, params, task.with_shots(support, shots)).evidence
    values = np.asarray(found.log_evidence, np.float64)
    inside = np.log(normalised(prior[:3]) @ np.exp(values[:3]))
    ratios.append(values[3] - inside)
    assert found.surprise.log_ratio == pytest.approx(ratios[-1], abs=1e-4)
    assert found.surprise.largest == pytest.approx(max(ratios), abs=1e-4)


def test_choices_drawn_from_inside_are_flagged_no_oftener_than_the_level():
  rng = np.random.default_rng(0)
  log_p = np.log(np.array([0.6, 0.4])), np.log(np.array([0.2, 0.8]))  # inside, outside
  choice = rng.random((4000, 64)) < 0.4
  values = np.stack([np.where(choice, p[1], p[0]) for p in log_p], -1)

  def surprise_of(user):
    return prequential.from_first(
      user, jnp.ones(64, bool), log_prior=jnp.zeros(2), groups=Groups((0,), (1,)), switching=0.0
    ).surprise

  found = jax.vmap(surprise_of)(jnp.asarray(values, jnp.float32))
  assert isinstance(found, Surprise)
  assert 0.01 < found.is_flagged.mean() <= 0.05


def test_a_probability_is_of_a_stated_prevalence():
  ratio = jnp.array([0.0, LOG_THRESHOLD + 1e-5, 2000.0])
  found = Surprise(ratio, ratio)
  assert found.is_flagged.tolist() == [False, True, True]
  np.testing.assert_allclose(found.probability(0.1), [0.1, 20 / 29, 1], rtol=1e-4)
  with pytest.raises(ValueError, match='prevalence must lie between 0 and 1'):
    found.probability(0.0)


def test_members_get_all_sizes_of_the_population():
  members = {
    'copl': {'hidden': (3,)},
    'pairs': {'name': 'as_pairs', 'base': 'pooled', 'options': {'hidden': (3,)}},
  }
  sizes = {'num_histories': 5, 'history_length': 6}

  def of(*rows, outcomes=()):
    team = {row: members[row] for row in rows}
    return learners.make(
      'hedge', num_features=D + 1, members=team, own_from='', outcomes=outcomes, **sizes
    )

  assert of('copl', 'pairs').update is not None
  assert of('pairs', outcomes=('tie',)).update is None  # as_pairs reads answers


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'members': {}}, 'one or more rows.*got none'),
    ({'members': {'own': {'name': 'pooled'}}}, "none of them 'own'"),
    ({'members': {'cmp': {}}}, "unknown learner 'cmp'"),
    ({'members': {'cnp': {'depth': 1}}}, 'cnp takes no depth'),
    ({'own_from': 'maml'}, "own_from must be '' or one of the members cnp, .*got 'maml'"),
    ({'outside': ('maml',)}, 'outside must name some of the members cnp, .*got maml'),
    ({'outside': tuple(SMALL)}, 'leave one that describes the population'),
    ({'outside_prior': 1.0}, 'outside_prior must lie between 0 and 1'),
    ({'untrained': ('maml',)}, 'untrained must name members, .*got maml'),
    ({'untrained': ('plain',)}, 'untrained members plain have no prepare'),
    ({'switching': 1.0}, 'switching must be at least 0 and below 1'),
    ({'own_scale': 0.0}, 'own_scale must be positive'),
  ],
)
def test_what_cannot_be_averaged_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)


def test_the_alarm_of_a_hedge_is_its_own_and_not_a_members():
  particles = {'name': 'dirichlet_mixture', 'num_particles': 64, 'num_outside': 8}
  learner, params = made(members={'mixture': particles, **SMALL}, own_from='plain')
  state = learner.adapt(params, comparisons(), NOTHING, KEY)
  found = surprise.found_in(state, 'hedge', 0)
  np.testing.assert_array_equal(found, state.evidence.surprise)
  assert found.log_ratio != state.members['mixture'].surprise.log_ratio


@pytest.mark.parametrize(
  ('members', 'has'), [(['plain'], False), (['plain', 'cnp'], True), (['head'], True)]
)
def test_one_member_without_a_posterior_gives_none(members, has):
  rows = SMALL | {'head': {'name': 'bayes_head', 'hidden': (), 'width': 2}}
  chosen = {name: rows[name] for name in members}
  assert made(members=chosen, own_from='')[0].has_posterior == has

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import outcomes, task
from metapers.core.task import Candidates, Task
from metapers.learners import copl, user_bank
from metapers.learners.utility import utilities, utility_network

D, U, N, ITEMS = 3, 5, 6, 7
KEY = jax.random.key(9)
OPTIONS = {'num_features': D, 'num_histories': U, 'history_length': N, 'hidden': (4,)}


@functools.cache
def items():
  return np.random.default_rng(0).normal(size=(ITEMS, D)).astype(np.float32)


@functools.cache
def numbers():
  """Which two of few items are compared, [U, N, 2]; many are shared."""
  rng = np.random.default_rng(1)
  return np.array([[rng.permutation(ITEMS)[:2] for _ in range(N)] for _ in range(U)])


def histories(shown=None):
  rng = np.random.default_rng(2)
  x = items()[numbers()] if shown is None else shown
  candidates = Candidates(jnp.asarray(x), jnp.ones((U, N, 2), bool))
  did = jnp.asarray(rng.random((U, N)) < 0.8).at[U - 1].set(False)  # the last one did nothing
  weight = jnp.asarray(rng.random((U, N)), jnp.float32)
  support = task.choices(candidates, jnp.asarray(rng.integers(2, size=(U, N))), did, weight)
  nothing = jax.tree.map(lambda leaf: leaf[:, :0], support)
  return Task(support, nothing, jnp.arange(U), jnp.zeros((U, 0)))


@functools.cache
def made(**options):
  learner = learners.make('copl', **OPTIONS | options)
  params = learner.init(jax.random.key(0))
  return learner, params, jax.jit(learner.prepare)(params, histories(), KEY)


def adapt(learner, params, support):
  return jax.jit(learner.adapt)(params, support, jnp.zeros(0), KEY)


def new_user(num_comparisons=4):
  """Compares items 0 with 1, 1 with 2 and so on, and chooses the first of them."""
  index = np.stack([np.arange(num_comparisons), np.arange(num_comparisons) + 1], 1)
  candidates = Candidates(jnp.asarray(items()[index]), jnp.ones(index.shape, bool))
  return task.choices(candidates, jnp.zeros(num_comparisons, jnp.int32))


def adjacency():
  """Signed edges of users and items [U, ITEMS], and their absolute sums."""
  given = jax.device_get(histories().support)
  signed, absolute = np.zeros((2, U, ITEMS))
  for u in range(U):
    for n in range(N):
      for k, item in enumerate(numbers()[u, n]):
        weight = float(given.weight[u, n]) * bool(given.mask[u, n])
        signed[u, item] += weight if given.choice[u, n] == k else -weight
        absolute[u, item] += weight
  return signed, absolute


@pytest.mark.parametrize('num_layers', [0, 1, 4])
def test_layers_are_products_with_the_signed_adjacency_matrix(num_layers):
  start = np.random.default_rng(3).normal(size=(U, 2)).astype(np.float32)
  signed, absolute = adjacency()
  per_item = signed.T / np.maximum(absolute.sum(0), 1e-9)[:, None]
  per_user = signed / np.maximum(absolute.sum(1), 1e-9)[:, None]
  layers = [np.asarray(start, np.float64)]
  for _ in range(num_layers):
    layers.append(per_user @ (per_item @ layers[-1]))
    layers[-1][U - 1] = start[U - 1]  # without any edge
  known = task.drop_masked(histories().support)
  found = copl.propagated(jnp.asarray(start), known, num_layers=num_layers)
  np.testing.assert_allclose(found, np.mean(layers, 0), rtol=1e-4, atol=1e-6)


def test_who_shares_no_response_stays_as_they_are():
  apart = np.random.default_rng(4).normal(size=(U, N, 2, D)).astype(np.float32)
  known = task.drop_masked(histories(apart).support)
  start = jnp.asarray(np.random.default_rng(3).normal(size=(U, 2)), jnp.float32)
  found = copl.propagated(start, known, num_layers=3)
  np.testing.assert_allclose(found, start, rtol=1e-5)


def test_embeddings_without_a_graph_are_the_heads_of_lookup():
  _, params, with_none = made(num_layers=0)
  offset = functools.partial(utilities, utility_network(D, (4,)), params['pooled'])
  given = histories()._replace(support=task.drop_masked(histories().support))
  expected = user_bank.fit_bank(offset, given, 1.0, 6).heads
  np.testing.assert_allclose(with_none['bank']['heads'], expected, atol=1e-5)
  moved = made(num_layers=2)[2]['bank']['heads']
  assert np.abs(moved - expected).max() > 0.01


def test_features_are_one_item_where_they_agree_in_float16():
  rng = np.random.default_rng(5)
  x = rng.integers(-2, 3, size=(2000, D)).astype(np.float32)  # short mantissas, many alike, zeros
  x[::2] += rng.integers(2, size=(1000, 1)) * np.float32(2**-9)
  _, expected = np.unique(x, axis=0, return_inverse=True)
  found = np.asarray(copl.same_items(copl.fingerprints(jnp.asarray(x))))
  pairs = {(int(a), int(b)) for a, b in zip(found, expected, strict=True)}
  assert len(pairs) == len(set(found)) == len(set(expected))
  long = rng.standard_normal((50, D)).astype(np.float32)
  long[0] = -1e-9  # which becomes a zero
  kept = long.astype(np.float16).astype(np.float32)  # as a profile keeps them
  np.testing.assert_array_equal(*(copl.fingerprints(jnp.asarray(each)) for each in (long, kept)))


def test_numbers_of_items_are_of_different_items():
  numbers = jnp.append(jnp.arange(6000.0), jnp.array([70000.0, 90000.0, 70000.0]))[:, None]
  found = np.asarray(copl.same_items(copl.fingerprints(numbers)))
  assert len(set(found.tolist())) == 6002 and found[-1] == found[-3]


def test_both_zeros_are_one_and_hashes_are_whole_numbers():
  x = jnp.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]])
  keys = np.asarray(copl.fingerprints(x))
  np.testing.assert_array_equal(keys[0], keys[1])
  assert (keys[0] != keys[2]).any() and (keys == np.floor(keys)).all() and keys.max() < 2**24


def test_a_new_user_is_the_mean_of_known_ones_by_their_mean_log_likelihood():
  learner, params, prepared = made(temperature=0.5)
  support, query = new_user(), new_user(6).candidates
  pooled = functools.partial(utilities, utility_network(D, (4,)), params['pooled'])
  heads = np.asarray(prepared['bank']['heads'], np.float64)
  base, x = np.asarray(pooled(support.candidates)), np.asarray(support.candidates.features)
  scores = base[None] + np.einsum('nkd,ud->unk', x, heads)
  mean = -np.logaddexp(0, scores[..., 1] - scores[..., 0]).mean(-1)
  shares = np.exp(mean / 0.5)[: U - 1]  # the last one did nothing
  embedding = (shares / shares.sum()) @ heads[: U - 1]
  expected = np.asarray(pooled(query)) + np.asarray(query.features) @ embedding
  found = learner.score(prepared, adapt(learner, prepared, support), query)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_mean_does_not_see_how_often_all_comparisons_count():
  learner, _, prepared = made()
  once, often = (
    adapt(learner, prepared, new_user()._replace(weight=jnp.full(4, w))) for w in (1.0, 5.0)
  )
  query = new_user(6).candidates
  np.testing.assert_allclose(
    learner.score(prepared, once, query), learner.score(prepared, often, query), rtol=1e-4
  )


def test_two_hops_lead_to_those_who_chose_what_the_new_user_chose():
  learner, _, prepared = made()
  given = jax.device_get(histories().support)
  chosen = [
    {int(numbers()[u, n, given.choice[u, n]]) for n in range(N) if given.mask[u, n]}
    for u in range(U)
  ]
  for item in range(ITEMS - 1):
    support = jax.tree.map(lambda x, item=item: x[item : item + 1], new_user(ITEMS - 1))
    evidence = adapt(learner, prepared, support)
    expected = np.array([item in each for each in chosen], np.float32)
    np.testing.assert_array_equal(evidence.shared, expected)


def evidence(shared):
  agreement = user_bank.Agreement(jnp.array([-3.0, -1.0, -2.0]), jnp.asarray(2.0))
  return copl.SharedAgreement(agreement, jnp.asarray(shared, jnp.float32))


@pytest.mark.parametrize(
  ('two_hop', 'shared', 'near'),
  [
    (False, [1, 0, 0], [0, 1]),
    (True, [1, 0, 0], [0]),
    (True, [0, 0, 0], [0, 1]),  # no one: all known users
    (True, [0, 0, 1], [0, 1]),  # the last holds no user
  ],
)
def test_neighbors_are_all_known_users_or_those_at_two_hops(two_hop, shared, near):
  is_used = jnp.array([True, True, False])
  found = copl.shares(evidence(shared), is_used, temperature=0.25, two_hop=two_hop)
  expected = np.zeros(3)
  expected[near] = jax.nn.softmax(jnp.array([-6.0, -2.0])[jnp.array(near)])  # ℓ / (n · 0.25)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('name', 'value'), [('num_layers', -1), ('temperature', 0.0), ('history_length', 0)]
)
def test_bad_options_are_named(name, value):
  with pytest.raises(ValueError, match=f'{name} must be'):
    learners.make('copl', **OPTIONS | {name: value})


def test_histories_of_another_number_of_users_are_refused():
  learner, params, _ = made()
  few = task.take(histories(), jnp.arange(2))
  with pytest.raises(ValueError, match=r'copl was built with num_histories=5 .* of 2 users'):
    learner.prepare(params, few, KEY)


KINDS = ('tie', 'both_bad', 'strong')


def answered(answer, x):
  """Comparisons [*T, N] of texts [*T, N, 2, D] with an index among the outcomes of KINDS each."""
  texts = outcomes.widened(jnp.asarray(x), KINDS)
  shown = outcomes.expand(Candidates(texts, jnp.ones(texts.shape[:-1], bool)), KINDS)
  return task.choices(shown, jnp.asarray(answer))


@functools.cache
def outspoken():
  """Known users who say that both are bad, all of them once, and what they chose of texts."""
  x = np.random.default_rng(4).normal(size=(3, 4, 2, D)).astype(np.float32)  # nothing is shared
  support = answered([[0, 3, 4, 2], [5, 1, 3, 2], [3, 2, 3, 2]], x)
  nothing = jax.tree.map(lambda leaf: leaf[:, :0], support)
  known = Task(support, nothing, jnp.arange(3), jnp.zeros((3, 0)))
  sizes = {'num_features': D + 3, 'num_histories': 3, 'history_length': 4, 'outcomes': KINDS}

  def prepared(num_layers):
    learner = learners.make('copl', **sizes, hidden=(4,), num_layers=num_layers)
    return learner, jax.jit(learner.prepare)(learner.init(jax.random.key(0)), known, KEY)

  return x, prepared(0)[1], *prepared(4)


def test_who_shares_no_text_but_that_both_were_bad_stays_as_they_are():
  _, with_none, _, params = outspoken()
  own, found = (each['bank']['heads'] for each in (with_none, params))
  assert np.abs(own).max(1).min() > 0.1
  np.testing.assert_allclose(found, own, atol=1e-5)


def test_what_was_chosen_is_a_text_however_strongly():
  x, _, learner, params = outspoken()
  texts = [[x[0, 0, 0], None, x[0, 2, 0], None], [x[1, 0, 1], x[1, 1, 1], None, None], [None] * 4]
  for user, row in enumerate(texts):
    for n, text in enumerate(row):
      wide = jnp.asarray(np.zeros(D + 3) if text is None else np.append(text, [0, 0, 0]))
      expected = -1 if text is None else copl.fingerprints(wide)
      np.testing.assert_array_equal(params['bank']['chosen'][user, n], expected)
  shown = x[[0, 1, 1, 0], [2, 0, 2, 0]]
  for answer, shared in (([4, 2, 3, 2], [1, 0, 0]), ([3, 5, 2, 4], [1, 1, 0])):
    found = adapt(learner, params, answered(answer, shown)).shared
    np.testing.assert_array_equal(found, shared)


def test_a_comparison_of_no_weight_chose_nothing():
  support = new_user()._replace(weight=jnp.array([1.0, 0, 1, 0]))
  nothing = (copl.chosen_fingerprints(support) < 0).all(1)
  assert nothing.tolist() == [False, True, False, True]

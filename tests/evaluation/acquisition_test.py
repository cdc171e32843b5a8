"""Rules against the definitions they are named after, written out in loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.evaluation import acquisition
from metapers.evaluation.acquisition import RULES, Pool

S, N, Q, K = 7, 5, 4, 2
INFORMED = ('entropy', 'd_optimal', 'bald', 'epig')


def pool(utilities=None, targets=None, key=0):
  rng = np.random.default_rng(0)
  utilities = rng.normal(size=(S, N, K)) if utilities is None else np.asarray(utilities)
  targets = rng.normal(size=(S, Q, K)) if targets is None else np.asarray(targets)
  values = (jnp.asarray(x, jnp.float32) for x in (utilities, targets))
  masks = (jnp.ones(x.shape[1:], bool) for x in (utilities, targets))
  utilities, targets = values
  mask, target_mask = masks
  return Pool(utilities, mask, targets, target_mask, jax.random.key(key))


def softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def entropy(p):
  return -sum(x * np.log(x) for x in np.ravel(p))


def test_entropy_is_that_of_the_mean_probability():
  it = pool()
  p = softmax(np.asarray(it.utilities))
  expected = [entropy(p[:, n].mean(0)) for n in range(N)]
  np.testing.assert_allclose(acquisition.entropy(it), expected, rtol=1e-5)


def test_bald_is_the_information_between_draw_and_answer():
  it = pool()
  p = softmax(np.asarray(it.utilities))
  expected = [
    sum(p[s, n, k] / S * np.log(p[s, n, k] / p[:, n, k].mean()) for s in range(S) for k in range(K))
    for n in range(N)
  ]
  np.testing.assert_allclose(acquisition.bald(it), expected, rtol=1e-4)


def test_epig_is_the_mean_information_between_two_answers():
  it = pool()
  p, target = softmax(np.asarray(it.utilities)), softmax(np.asarray(it.targets))
  expected = np.zeros(N)
  for n, q, k, j in itertools.product(range(N), range(Q), range(K), range(K)):
    joint = np.mean(p[:, n, k] * target[:, q, j])
    expected[n] += joint * np.log(joint / (p[:, n, k].mean() * target[:, q, j].mean())) / Q
  np.testing.assert_allclose(acquisition.epig(it), expected, rtol=1e-3, atol=1e-6)


def test_d_optimal_of_pairs_weighs_the_variance_of_the_gap():
  it = pool()
  first = softmax(np.asarray(it.utilities))[..., 0].mean(0)
  gap = np.asarray(it.utilities[..., 0] - it.utilities[..., 1])
  expected = first * (1 - first) * gap.var(0)
  np.testing.assert_allclose(acquisition.d_optimal(it), expected, rtol=1e-5)


def test_d_optimal_of_more_candidates_is_the_first_order_of_the_determinant():
  it = pool(1e-2 * np.random.default_rng(1).normal(size=(S, N, 4)))
  p = softmax(np.asarray(it.utilities, np.float64)).mean(0)
  expected = []
  for n in range(N):
    information = np.diag(p[n]) - np.outer(p[n], p[n])
    covariance = np.cov(np.asarray(it.utilities[:, n], np.float64), rowvar=False, bias=True)
    expected.append(np.linalg.slogdet(np.eye(4) + information @ covariance)[1])
  np.testing.assert_allclose(acquisition.d_optimal(it), expected, rtol=1e-3)


def test_of_noiseless_draws_bald_is_the_entropy_of_their_votes():
  it = pool(1e5 * np.random.default_rng(2).normal(size=(S, N, K)))
  votes = np.mean(np.asarray(it.utilities).argmax(-1), 0)
  share = np.clip(votes, 1e-12, 1 - 1e-12)
  expected = -share * np.log(share) - (1 - share) * np.log(1 - share)
  for rule in (acquisition.bald, acquisition.entropy):
    np.testing.assert_allclose(rule(it), expected, atol=1e-5)


def test_entropy_alone_values_noise():
  certain = np.zeros((S, N, K))  # all draws agree that the answer is a coin's
  assert np.all(acquisition.entropy(pool(certain)) > 0.69)
  for name in ('d_optimal', 'bald', 'epig'):
    np.testing.assert_allclose(RULES[name](pool(certain)), 0, atol=1e-6)


def test_epig_alone_prefers_what_bears_on_the_targets():
  bits = np.array(list(itertools.product((-1, 1), repeat=2)) * 2, float)  # independent preferences
  utilities = 1e3 * np.stack([bits, -bits], -1)  # comparison n is about preference n
  it = pool(utilities, utilities[:, :1])
  assert acquisition.epig(it).argmax() == 0
  np.testing.assert_allclose(acquisition.epig(it), [np.log(2), 0], atol=1e-5)
  np.testing.assert_allclose(acquisition.bald(it), np.log(2), rtol=1e-5)


@pytest.mark.parametrize('name', INFORMED)
def test_masked_candidates_and_targets_change_nothing(name):
  it = pool()
  wide = jnp.pad(it.utilities, ((0, 0), (0, 0), (0, 1)), constant_values=jnp.nan)
  long = jnp.pad(it.targets, ((0, 0), (0, 2), (0, 0)), constant_values=jnp.nan)
  masked = it._replace(
    utilities=wide,
    mask=jnp.pad(it.mask, ((0, 0), (0, 1))),
    targets=long,
    target_mask=jnp.pad(it.target_mask, ((0, 2), (0, 0))),
  )
  np.testing.assert_allclose(RULES[name](masked), RULES[name](it), rtol=1e-5)


@pytest.mark.parametrize('name', INFORMED)
def test_swapped_candidates_and_shifted_utilities_are_worth_the_same(name):
  it = pool()
  other = it._replace(utilities=it.utilities[..., ::-1] + 3, targets=it.targets - 2)
  np.testing.assert_allclose(RULES[name](other), RULES[name](it), rtol=1e-3, atol=1e-6)


def test_random_depends_on_the_key_alone():
  value = acquisition.random(pool())
  np.testing.assert_array_equal(acquisition.random(pool(np.ones((S, N, K)))), value)
  assert not np.array_equal(acquisition.random(pool(key=1)), value)


def joint_information(p, questions):
  """Returns I(answers; draw), in nats, over every combination of answers: p [S, N, K]."""
  expected = -sum(entropy(p[s, n]) for s in range(len(p)) for n in questions) / len(p)
  for answers in itertools.product(range(p.shape[-1]), repeat=len(questions)):
    likelihood = np.prod([p[:, n, k] for n, k in zip(questions, answers)], axis=0)
    expected -= likelihood.mean() * np.log(likelihood.mean())
  return expected


def choices(num_draws=S, num_questions=N, num_candidates=K, *, scale=2.0, seed=0):
  rng = np.random.default_rng(seed)
  utilities = scale * rng.normal(size=(num_draws, num_questions, num_candidates))
  return softmax(utilities)


def batch(p, count, **options):
  mask = options.pop('mask', np.ones(p.shape[1], bool))
  found = acquisition.batch(jnp.float32(np.log(p)), jnp.asarray(mask), count, **options)
  return found.index.tolist(), np.asarray(found.information)


@pytest.mark.parametrize('num_candidates', [2, 3])
def test_a_batch_has_the_information_of_all_answers_together(num_candidates):
  p = choices(num_candidates=num_candidates)
  index, information = batch(p, 4)
  for size in range(1, 5):
    expected = joint_information(p, index[:size])
    assert information[:size].sum() == pytest.approx(expected, rel=1e-4)


def test_each_question_of_a_batch_adds_most_to_those_before_it():
  p = choices(num_questions=7)
  index, _ = batch(p, 4)
  for size in range(4):
    others = [n for n in range(7) if n not in index[:size]]
    assert index[size] == max(others, key=lambda n: joint_information(p, [*index[:size], n]))
  assert index[0] == np.argmax(acquisition.mutual_information(jnp.float32(np.log(p))))


def test_near_duplicates_are_not_asked_together_though_each_scores_high():
  rng = np.random.default_rng(0)
  alike = 8 * rng.normal(size=(1, 16)) + 0.1 * rng.normal(size=(4, 16))
  gap = np.concatenate([alike, 3 * rng.normal(size=(3, 16))]).T  # [S, N]
  p = softmax(np.stack([gap, np.zeros_like(gap)], -1))
  top = np.argsort(-np.asarray(acquisition.mutual_information(jnp.float32(np.log(p)))))[:4]
  assert sorted(top) == [0, 1, 2, 3]
  index, information = batch(p, 4)
  assert sum(n < 4 for n in index) == 1
  assert information.sum() == pytest.approx(joint_information(p, index), rel=1e-4)
  assert joint_information(p, index) > joint_information(p, top) + 0.5


def test_no_question_is_asked_twice_or_where_there_is_none():
  p = choices(num_questions=6, scale=40)  # nearly noiseless: soon all draws are told apart
  mask = np.array([True, False, True, True, False, True])
  index, information = batch(p, 4, mask=mask)
  assert sorted(index) == [0, 2, 3, 5]
  assert information.sum() <= np.log(S) + 1e-5


def test_few_histories_approximate_all():
  p = choices(num_draws=16, num_questions=12)
  index, information = batch(p, 6, num_histories=8)
  assert information.sum() == pytest.approx(joint_information(p, index), rel=0.05)
  assert joint_information(p, index) == pytest.approx(
    joint_information(p, batch(p, 6)[0]), rel=0.03
  )

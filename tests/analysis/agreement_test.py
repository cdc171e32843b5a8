"""Agreement of reward models and of users, against loops, NumPy and SciPy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from metapers.analysis import agreement
from metapers.analysis.study_frame import Whose, value_of


def draw(seed=0, prompts=12, responses=4, models=3):
  rng = np.random.default_rng(seed)
  mask = rng.random((prompts, responses)) < 0.8
  mask[:, :2] = True
  common = rng.normal(size=(prompts, responses, 1))
  scores = common + rng.normal(size=(prompts, responses, models))
  return np.where(mask[..., None], scores, 0), mask


def pairs(mask):
  for prompt, first, second in itertools.product(*map(range, (len(mask), *[mask.shape[1]] * 2))):
    if first < second and mask[prompt, first] and mask[prompt, second]:
      yield prompt, first, second


def test_correlations_are_those_of_scores_around_their_prompts_means():
  scores, mask = draw()
  rows = [own[real] - own[real].mean(0) for own, real in zip(scores, mask)]
  expected = np.concatenate(rows)
  expected = np.linalg.inv(np.diag(np.sqrt((expected**2).sum(0)))) @ expected.T
  np.testing.assert_allclose(agreement.matrices(scores, mask).correlation, expected @ expected.T)


def test_disagreement_is_the_share_of_pairs_that_two_models_order_differently():
  scores, mask = draw()
  found = agreement.matrices(scores, mask).disagreement
  signs = [np.sign(scores[p, i] - scores[p, j]) for p, i, j in pairs(mask)]
  for first, second in itertools.product(range(3), repeat=2):
    assert found[first, second] == pytest.approx(np.mean([s[first] != s[second] for s in signs]))


def test_a_model_that_sees_no_difference_disagrees_half_of_the_time():
  scores, mask = draw()
  scores[..., 0] = 0
  np.testing.assert_allclose(agreement.matrices(scores, mask).disagreement[0], [0, 0.5, 0.5])


def test_models_that_agree_stand_beside_each_other():
  near = np.array([[1, 0, 0.9, 0], [0, 1, 0, 0.9], [0.9, 0, 1, 0], [0, 0.9, 0, 1.0]])
  order = agreement.clustering_order(near).tolist()
  assert abs(order.index(0) - order.index(2)) == abs(order.index(1) - order.index(3)) == 1
  assert agreement.clustering_order(near[:2, :2]).tolist() == [0, 1]


def test_the_effective_number_counts_equal_directions():
  assert agreement.effective_number(np.eye(5)) == pytest.approx(5)
  assert agreement.effective_number(np.ones((5, 5))) == pytest.approx(1)
  values = np.array([3.0, 2, 1])
  turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
  matrix = turn * values @ turn.T
  assert agreement.effective_number(matrix) == pytest.approx(36 / 14)
  assert agreement.first_share(matrix) == pytest.approx(0.5)


def test_the_effective_number_of_users_is_that_of_their_rewards_correlations():
  scores, mask = draw(prompts=30)
  weights = np.random.default_rng(1).dirichlet(np.ones(3), 7)
  centred = np.concatenate([own[real] - own[real].mean(0) for own, real in zip(scores, mask)])
  rewards = centred @ weights.T
  unit = rewards / np.linalg.norm(rewards, axis=0)
  expected = 1 / np.mean((unit.T @ unit) ** 2)
  moment = agreement.user_moment(weights, agreement.covariances(scores, mask).sum(0))
  assert agreement.effective_number(moment) == pytest.approx(expected)


def test_disagreement_of_users_is_that_of_all_pairs_of_them():
  scores, mask = draw()
  weights = np.random.default_rng(2).dirichlet(np.ones(3), 6)
  found = agreement.disagreement_by_prompt(weights, scores, mask, block=5)
  for prompt in range(len(mask)):
    differ = [
      np.sign(weights[u] @ (scores[p, i] - scores[p, j]))
      != np.sign(weights[v] @ (scores[p, i] - scores[p, j]))
      for p, i, j in pairs(mask)
      if p == prompt
      for u, v in itertools.combinations(range(6), 2)
    ]
    assert found[prompt] == pytest.approx(np.mean(differ), abs=1e-6)


def test_pairs_of_users_have_their_distance_and_their_disagreement():
  rng = np.random.default_rng(3)
  weights, values = rng.dirichlet(np.ones(3), 5), rng.normal(size=(40, 3))
  found = agreement.pairs_of_users(weights, values)
  for number, (u, v) in enumerate(itertools.combinations(range(5), 2)):
    assert found.apart[number] == pytest.approx(np.abs(weights[u] - weights[v]).sum() / 2)
    differ = np.sign(values @ weights[u]) != np.sign(values @ weights[v])
    assert found.disagreement[number] == pytest.approx(differ.mean(), abs=1e-6)


def test_the_study_of_users_holds_what_its_parts_say():
  scores, mask = draw(prompts=40)
  drawn = np.random.default_rng(4).dirichlet(np.ones(3), (3, 20))
  frame = agreement.users_study(drawn, scores, mask, Whose('agreement'))
  rate = [agreement.disagreement_by_prompt(weights, scores, mask).mean() for weights in drawn]
  found = value_of(frame, group='two users', statistic='disagreement')
  assert found == pytest.approx(np.mean(rate))
  values = agreement.random_contrasts(scores, mask)
  both = [agreement.pairs_of_users(weights, values) for weights in drawn]
  ranks = [stats.spearmanr(one.apart, one.disagreement).statistic for one in both]
  name = 'rank correlation of distance and disagreement'
  assert value_of(frame, statistic=name) == pytest.approx(np.mean(ranks))
  inside = [(one.disagreement[(one.apart >= 0.2) & (one.apart < 0.3)]).mean() for one in both]
  found = value_of(frame, group='distance 0.2-0.3', statistic='disagreement')
  assert found == pytest.approx(np.mean(inside))


def test_random_contrasts_are_differences_of_real_responses():
  scores, mask = draw()
  every = {tuple((scores[p, i] - scores[p, j]).round(9)) for p, i, j in pairs(mask)}
  found = agreement.random_contrasts(scores, mask, num_contrasts=10)
  assert len(found) == 10 and {tuple(row.round(9)) for row in found} <= every
  assert len(agreement.random_contrasts(scores, mask)) == len(every)


def test_the_study_of_models_names_every_pair_once():
  scores, mask = draw()
  frame = agreement.models_study(scores, mask, ('a', 'b', 'c'))
  assert set(frame[frame['statistic'] == 'correlation']['group']) == {'a / b', 'a / c', 'b / c'}
  places = frame[frame['statistic'] == 'place in clustering order']['value']
  assert sorted(places) == [0, 1, 2]
  found = value_of(frame, statistic='effective number of preferences')
  correlation = agreement.matrices(scores, mask).correlation
  assert found == pytest.approx(agreement.effective_number(correlation))

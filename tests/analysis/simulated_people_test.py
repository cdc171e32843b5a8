"""Simulated users in the place of people, and which of them answer as people did."""

import numpy as np
import pytest
from scipy import special

from metapers.analysis import people_statistics, simulated_people
from metapers.analysis.people_statistics import Answers


def questions(seed=0, users=150, items=40, count=16):
  rng = np.random.default_rng(seed)
  user = np.repeat(np.arange(users), count)
  pairs = np.sort(np.argsort(rng.random((len(user), items)), 1)[:, :2], 1)
  sign = np.ones(len(user), int)
  return Answers(user, *pairs.T, sign, np.zeros(items, int), users), rng.normal(size=(items, 3))


def test_users_without_noise_answer_by_their_rewards():
  answers, scores = questions()
  rng = np.random.default_rng(1)
  weights = rng.dirichlet(np.ones(3), answers.num_users)
  found = simulated_people.answered(answers, scores, weights, 0.0, rng)
  rewards = weights @ scores.T
  for user, first, second, sign in zip(*found[:4]):
    assert sign == np.sign(rewards[user, first] - rewards[user, second])


@pytest.mark.parametrize('is_rated', [False, True])
def test_noise_is_logistic(is_rated):
  users = 20000
  answers = Answers(
    np.arange(users), np.zeros(users, int), np.ones(users, int), np.ones(users, int),
    np.zeros(2, int), users, is_rated,
  )  # fmt: skip
  scores, weights = np.array([[1.0], [0.4]]), np.ones((users, 1))
  found = simulated_people.answered(answers, scores, weights, 0.5, np.random.default_rng(2))
  assert (found.sign == 1).mean() == pytest.approx(special.expit(1.2), abs=0.012)


def test_the_likelihood_is_the_mean_over_particles_of_the_product():
  answers, scores = questions(users=4, count=3)
  rng = np.random.default_rng(3)
  answers = answers._replace(sign=rng.choice([-1, 1], len(answers.user)))
  answers = people_statistics.some(answers, np.arange(len(answers.user)) != 4)  # uneven histories
  weights = rng.dirichlet(np.ones(3), 50).astype(np.float32)
  gaps, mask = simulated_people.padded(answers, scores)
  assert mask.sum(1).tolist() == [3, 2, 3, 3]
  found = simulated_people.log_evidence(weights, gaps, mask, np.float32(0.7))
  for user in range(4):
    product = np.ones(50)
    for who, first, second, sign in zip(*answers[:4]):
      if who == user:
        product *= special.expit(sign * (weights @ (scores[first] - scores[second])) / 0.7)
    assert found[user] == pytest.approx(np.log(product.mean()), abs=1e-4)


def test_alpha_and_noise_are_found_jointly():
  answers, scores = questions(users=300)
  rng = np.random.default_rng(4)
  weights = simulated_people.draw_weights(rng, 300, 0.1, 3)
  drawn = simulated_people.answered(answers, scores, weights, 0.5, rng)
  found = simulated_people.fit(drawn, scores, num_particles=512)
  assert found.best == (0.1, 0.5)
  at = found.concentrations.index(0.1), found.temperatures.index(0.5)
  assert found.inside[at] and found.inside.sum() <= 6
  away = 2 * (found.log_evidence.max() - found.log_evidence)
  np.testing.assert_array_equal(found.inside, away <= 5.991464547107979)


def test_of_ratings_each_is_read_once_and_the_region_holds_the_truth():
  users, rated, items = 120, 10, 40
  rng = np.random.default_rng(5)
  shown = np.sort(np.argsort(rng.random((users, items)), 1)[:, :rated], 1)
  one, other = np.triu_indices(rated, 1)
  pairs = shown[:, one].ravel(), shown[:, other].ravel()
  user = np.repeat(np.arange(users), len(one))
  answers = Answers(user, *pairs, np.ones(user.size, int), np.zeros(items, int), users, True)
  scores = rng.normal(size=(items, 3))
  weights = simulated_people.draw_weights(rng, users, 0.3, 3)
  drawn = simulated_people.answered(answers, scores, weights, 0.5, rng)
  read = simulated_people.disjoint(drawn, rng)
  assert len(read.user) == users * rated // 2
  for user in range(users):
    own = read.user == user
    assert np.unique([read.first[own], read.second[own]]).size == rated
  found = simulated_people.fit(drawn, scores, num_particles=512)
  assert found.inside[found.concentrations.index(0.3), found.temperatures.index(0.5)]


def test_items_are_random_responses_around_their_prompts_means():
  rng = np.random.default_rng(5)
  scores, mask = rng.normal(size=(6, 3, 2)), rng.random((6, 3)) < 0.7
  mask[:, 0] = True
  found = simulated_people.items_of(scores, mask, 5, np.random.default_rng(0))
  pool = np.concatenate([own[real] - own[real].mean(0) for own, real in zip(scores, mask)])
  assert all(np.isclose(pool, row).all(1).any() for row in found)
  assert simulated_people.items_of(scores, mask, 500, rng).shape == (500, 2)


def test_items_are_scored_where_all_reward_models_are_among_the_features():
  found = simulated_people.scored_columns(('length', 'b', 'a'), ('a', 'b'))
  assert found is not None and found.tolist() == [2, 1]
  assert simulated_people.scored_columns(('a',), ('a', 'b')) is None


def test_agreement_with_others_is_counted_person_by_person():
  answers, _ = questions(users=12, items=5, count=9)
  rng = np.random.default_rng(6)
  answers = answers._replace(sign=rng.choice([-1, 1], len(answers.user)))
  rows = list(zip(*answers[:4]))
  shares = []
  for person in range(12):
    said = []
    for place, (user, first, second, sign) in enumerate(rows):
      others = sum(
        s for i, (_, a, b, s) in enumerate(rows) if (a, b) == (first, second) and i != place
      )
      if user == person and others:
        said.append(others * sign > 0)
    if said:
      shares.append(np.mean(said))
  assert simulated_people.spread_of_agreement(answers) == pytest.approx(np.std(shares))


def test_predictive_checks_pass_the_same_users_and_refuse_others():
  answers, scores = questions(users=200, items=8)
  rng = np.random.default_rng(7)
  weights = simulated_people.draw_weights(rng, 200, 0.05, 3)
  drawn = simulated_people.answered(answers, scores, weights, 0.3, rng)
  same, other = (
    simulated_people.predictive_checks(drawn, scores, alpha, temperature, num_replicates=39)
    for alpha, temperature in ((0.05, 0.3), (5.0, 0.3))
  )
  assert min(one.p for one in same) > 0.02
  p = {one.statistic: one.p for one in other}
  assert p[people_statistics.DISAGREEMENT] == pytest.approx(2 / 40)


def test_p_values_are_ranks_among_replicates():
  replicated = np.arange(1.0, 20)
  assert simulated_people.two_sided(0.0, replicated) == pytest.approx(2 / 20)
  assert simulated_people.two_sided(10.0, replicated) == 1

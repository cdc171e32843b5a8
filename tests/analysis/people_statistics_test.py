"""Statistics of people's answers, against loops and simulated people of known rank."""

import itertools

import numpy as np
import pytest
from scipy import stats

from metapers.analysis import people_statistics
from metapers.analysis.people_statistics import DISAGREEMENT, ENTROPY, RANK, REPEATED, Answers
from metapers.core.tables import Histories


def draw(seed=0, users=6, items=4, count=60, contexts=1):
  rng = np.random.default_rng(seed)
  pairs = np.sort([rng.choice(items, 2, replace=False) for _ in range(count)], 1)
  context = np.arange(items) % contexts
  kept = context[pairs[:, 0]] == context[pairs[:, 1]]
  user, sign = rng.integers(users, size=count), rng.choice([-1, 1], count, p=[0.3, 0.7])
  return Answers(user[kept], *pairs[kept].T, sign[kept], context, users)


def by_pair(answers):
  found = {}
  for _, first, second, sign in zip(*answers[:4]):
    found.setdefault((first, second), []).append(sign)
  return [signs for signs in found.values() if len(signs) > 1]


def test_disagreement_is_that_of_all_pairs_of_answers():
  answers = draw()
  rates = [
    np.mean([one != other for one, other in itertools.combinations(signs, 2)])
    for signs in by_pair(answers)
  ]
  assert people_statistics.values_of(answers)[DISAGREEMENT] == pytest.approx(np.mean(rates))


def test_entropy_is_that_of_scipy():
  answers = draw()
  expected = [stats.entropy([signs.count(1), signs.count(-1)]) for signs in by_pair(answers)]
  assert people_statistics.values_of(answers)[ENTROPY] == pytest.approx(np.mean(expected))


def test_disagreement_with_oneself_is_within_person_and_pair():
  answers = draw()
  groups = {}
  for user, first, second, sign in zip(*answers[:4]):
    groups.setdefault((user, first, second), []).append(sign)
  couples = [
    one != other for signs in groups.values() for one, other in itertools.combinations(signs, 2)
  ]
  assert people_statistics.values_of(answers)[REPEATED] == pytest.approx(np.mean(couples))
  single = people_statistics.some(answers, np.arange(3))
  assert np.isnan(people_statistics.values_of(single)[DISAGREEMENT]) or len(by_pair(single))


def test_people_who_never_repeat_tell_no_noise():
  answers = Answers(*np.array([[0, 1], [0, 0], [1, 1], [1, -1]]), np.zeros(2, int), 2)
  found = people_statistics.values_of(answers)
  assert np.isnan(found[REPEATED]) and found[DISAGREEMENT] == 1
  assert found[ENTROPY] == pytest.approx(np.log(2)) and np.isnan(found[RANK])


def test_mean_answers_stand_around_everybodys():
  answers = draw(count=200)
  items = np.array([1, 3])
  inside = np.isin(answers.first, items) & np.isin(answers.second, items)
  own = people_statistics.some(answers, inside)
  mean, counts = people_statistics.halves_of(own, items)
  raw = np.full((6, 2), np.nan)
  for user, place in np.ndindex(6, 2):
    signs = [
      sign if first == items[place] else -sign
      for who, first, second, sign in zip(*own[:4])
      if who == user and items[place] in (first, second)
    ]
    assert counts[user, place] == len(signs)
    raw[user, place] = np.mean(signs) if signs else np.nan
  np.testing.assert_allclose(mean, np.nan_to_num(raw - np.nanmean(raw, 0)))


def test_the_cross_moment_is_over_people_who_gave_both():
  rng = np.random.default_rng(1)
  ends = [(rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3))) for _ in range(2)]
  ends = [(np.where(counts > 0, values, 0), counts) for values, counts in ends]
  found = people_statistics.cross_moment(ends, np.array([0, 2, 3, 4]))
  one = np.zeros((3, 3))
  for i, j in np.ndindex(3, 3):
    both = [u for u in (0, 2, 3, 4) if ends[0][1][u, i] and ends[1][1][u, j]]
    one[i, j] = np.mean([ends[0][0][u, i] * ends[1][0][u, j] for u in both]) if both else 0
  np.testing.assert_allclose(found, (one + one.T) / 2)


def people(rank, noise, *, is_rated=False, users=400, items=30, count=120, seed=2):
  rng = np.random.default_rng(seed)
  taste = rng.normal(size=(users, rank)) @ np.linalg.qr(rng.normal(size=(items, rank)))[0].T
  user = np.repeat(np.arange(users), count)
  pairs = np.sort(np.argsort(rng.random((len(user), items)), 1)[:, :2], 1)
  own = noise * (rng.normal(size=taste.shape) if is_rated else rng.normal(size=(len(user), 2)))
  rating = np.take_along_axis((taste + own if is_rated else taste)[user], pairs, 1)
  gap = rating @ [1, -1] + (0 if is_rated else own @ [1, -1])
  return Answers(
    user, *pairs.T, np.where(gap > 0, 1, -1), np.zeros(items, int), users, is_rated=is_rated
  )


def rank_of(answers):
  return people_statistics.split_half_rank(answers, people_statistics.divide(answers))


@pytest.mark.parametrize('noise', [0.0, 0.5])
def test_noise_adds_no_way_to_differ(noise):
  one, four = (rank_of(people(rank, noise)) for rank in (1, 4))
  assert one == pytest.approx(1.15, abs=0.25)
  assert four == pytest.approx(4, abs=0.8)


def test_noise_that_ratings_share_adds_few():
  found = rank_of(people(2, 0.4, is_rated=True))
  shared = people(2, 0.4, is_rated=True)._replace(is_rated=False)
  assert 2 < found < 6 and rank_of(shared) > 2 * found


def test_a_completed_diagonal_is_that_of_the_factors():
  loadings = np.random.default_rng(3).normal(size=(20, 2))
  whole = loadings @ loadings.T
  broken = whole + np.diag(np.linspace(1, 9, 20))
  found = people_statistics.completed_diagonal(broken, num_ways=2, num_steps=200)
  np.testing.assert_allclose(found, np.diag(whole), atol=0.05)


def test_ratings_are_divided_by_item():
  answers = draw(count=300)._replace(is_rated=True)
  side = people_statistics.sides_of(answers, np.random.default_rng(0))
  seen = {}
  for user, first, second, half in zip(answers.user, answers.first, answers.second, side):
    if half >= 0:
      assert seen.setdefault((user, first), half) == seen.setdefault((user, second), half) == half
  assert {-1, 0, 1} == set(side)


def test_histories_become_answers():
  histories = Histories(
    features=np.zeros((3, 1)), item_ids=np.arange(3), user_ids=np.arange(2),
    chosen=np.array([[2, 0], [1, 0]]), rejected=np.array([[1, 2], [2, 0]]),
    mask=np.array([[True, True], [True, False]]), context=np.zeros(3, int), identity=False,
    num_dropped=0, source='', content_hash='',
  )  # fmt: skip
  found = people_statistics.answers_of(histories)
  assert [each.tolist() for each in found[:4]] == [[0, 0, 1], [1, 0, 1], [2, 2, 2], [-1, 1, 1]]
  assert people_statistics.answers_of(histories, max_users=1).num_users == 1


def test_errors_are_those_of_new_people():
  found = [people_statistics.with_errors(people(2, 0.5, users=100, seed=s)) for s in range(16)]
  for name in (DISAGREEMENT, RANK):
    value, error = np.transpose([one[name] for one in found])
    assert 0.6 < error.mean() / value.std(ddof=1) < 1.7


def test_who_is_left_out_changes_nobodys_half():
  answers = draw(count=200)
  whole = people_statistics.divide(answers)
  kept = answers.user != 2
  alone = people_statistics.some_of(whole, kept)
  np.testing.assert_array_equal(alone.side, whole.side[kept])
  np.testing.assert_array_equal(alone.person, whole.person)
  assert abs(np.sum(whole.person == 0) - np.sum(whole.person == 1)) <= 1

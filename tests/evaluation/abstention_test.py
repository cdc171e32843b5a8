"""The guarantee of abstention by simulation: users differ, and their true errors are known."""

import json

import numpy as np
import pytest
import scipy.stats

from metapers.evaluation import abstention
from metapers.evaluation.abstention import Abstention, Observed

EASY, EDGE, HARD = 0.02, 0.8, 0.2612  # errors above a confidence, that confidence, errors below it
REPETITIONS, NUM_USERS, NUM_QUERIES = 600, 500, 8
RULE = Abstention(0.8, 0.9, 0.9, 4, 500)


def people(rng, num_users=NUM_USERS, hard=HARD):
  """Users of one confidence each, uniform in [.5, 1], whose queries are all right or all wrong."""
  confidence = rng.uniform(0.5, 1, num_users)
  is_wrong = rng.uniform(size=num_users) < np.where(confidence >= EDGE, EASY, hard)
  shape = num_users, NUM_QUERIES
  columns = (np.broadcast_to(x[:, None], shape) for x in (confidence, 1.0 - is_wrong))
  confidence, correct = columns
  return Observed(confidence, correct, np.ones(shape))


def true_error(threshold, hard=HARD):
  """E[errors answered] / E[answered] of these users."""
  least = max(threshold, 0.5)
  below = max(EDGE - least, 0)
  return (below * hard + (1 - max(least, EDGE)) * EASY) / (1 - least)


def thresholds_found():
  rng = np.random.default_rng(0)
  rules = [abstention.calibrate(people(rng), shots=4) for _ in range(REPETITIONS)]
  return [rule.threshold for rule in rules]


@pytest.fixture(scope='module')
def found():
  return thresholds_found()


def share_too_lax(found):
  return np.mean([least is not None and true_error(least) > 0.1 for least in found])


def test_the_claim_fails_no_more_often_than_it_says(found):
  assert true_error(0.7) > 0.1 > true_error(0.71)  # so that one step too far is an error
  assert 0 < share_too_lax(found) <= 0.1


def test_a_test_that_takes_queries_for_independent_is_caught(monkeypatch):
  def of_queries(excess, accuracy, error_rate):
    del error_rate
    errors = np.round(NUM_QUERIES * (excess > 0).sum(-1))
    answers = NUM_QUERIES * (excess != 0).sum(-1)
    return scipy.stats.binom.cdf(errors, answers, 1 - accuracy)

  monkeypatch.setattr(abstention, 'p_value', of_queries)
  assert share_too_lax(thresholds_found()) > 0.2


def test_nearly_all_that_can_be_answered_is(found):
  answering = [least for least in found if least is not None]
  assert len(answering) > 0.7 * REPETITIONS
  assert np.median(answering) <= 0.8


@pytest.mark.parametrize('shape', [(0.05, 1.0), (0.2, 0.3)])
def test_a_p_value_at_the_border_is_small_as_rarely_as_it_says(shape):
  rng = np.random.default_rng(1)
  rate, answered = shape  # of users who are wrong everywhere; of the others' share of answers
  wrong = rng.uniform(size=(4000, 500)) < rate
  allowed = rate / (rate + (1 - rate) * answered)  # errors among answers: the mean excess is 0
  excess = np.where(wrong, 1 - allowed, -allowed * answered)
  found = abstention.p_value(excess, 1 - allowed, 0.02)
  for level in (0.01, 0.05, 0.2):
    assert np.mean(found <= level) <= level


def test_wealth_is_what_a_gambler_without_hindsight_has():
  rng = np.random.default_rng(2)
  excess = rng.uniform(-0.1, 0.05, 40)
  wealth, best, seen = 1.0, 1.0, [0.4]
  squares = 0.25
  for user in excess:
    variance = squares / len(seen)
    bet = min(np.sqrt(2 * np.log(50) / (40 * variance)), 0.99 / 0.9)
    wealth *= 1 - bet * user
    best = max(best, wealth)
    seen.append(user)
    squares += (user - np.mean(seen)) ** 2
  np.testing.assert_allclose(abstention.p_value(excess[None], 0.9, 0.02), [1 / best], rtol=1e-12)


def test_sequences_end_where_they_first_fail():
  passed = np.zeros(50, bool)
  assert abstention.last_rejected(passed) is None
  passed[[0, 1, 2, 5, 10, 11, 12, 39]] = True  # sequences begin at 0, 10, 20, 30 and 40
  assert abstention.last_rejected(passed) == 12
  passed[:] = True
  assert abstention.last_rejected(passed) == 49


def test_thresholds_divide_what_confidences_there_are_and_end_at_all():
  grid = abstention.thresholds(4)
  assert (np.diff(grid) < 0).all() and grid[0] < 1
  np.testing.assert_allclose(grid[[0, -2, -1]], [0.985, 0.265, 0])


def test_excess_is_each_users_own_share_by_weight():
  observed = Observed(
    np.array([[0.9, 0.6, 0.7], [0.8, 0.8, 0.99]]),
    np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]]),
    np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
  )
  expected = [(2 * -0.1 + 0.9) / 4, (0.9 + 0.4) / 2]
  np.testing.assert_allclose(abstention.excess(observed, 0.7, 0.9), expected)


def test_users_who_are_never_right_often_enough_get_no_answer():
  rule = abstention.calibrate(people(np.random.default_rng(3))._replace(
    correct=np.full((NUM_USERS, NUM_QUERIES), 0.5)), shots=2)  # fmt: skip
  assert rule.threshold is None and not rule.answers(np.ones(3)).any()
  assert str(rule).startswith('abstains everywhere: 500 users show of no threshold')
  assert abstention.answered(rule, people(np.random.default_rng(0))).answered == 0


def test_a_rule_is_json_and_back():
  again = Abstention(**json.loads(json.dumps(RULE._asdict())))
  assert again == RULE and '0.8: at least 90% of answers are right after 4 comparisons' in str(
    again
  )
  assert again.answers(np.array([0.8, 0.79, np.nan, 1])).tolist() == [True, False, False, True]


def test_what_was_answered_is_a_ratio_of_means_over_users():
  rng = np.random.default_rng(4)
  size = 400, 6
  observed = Observed(
    rng.uniform(0.5, 1, size), rng.integers(0, 2, size) * 1.0, rng.integers(0, 3, size) * 1.0
  )
  found = abstention.answered(RULE, observed)
  own = np.stack([
    [(w * (c >= 0.8)).sum(), (w * (c >= 0.8) * y).sum()] / w.sum()
    for c, y, w in zip(*observed) if w.sum()
  ])  # fmt: skip
  np.testing.assert_allclose(found[:2], [own[:, 0].mean(), own[:, 1].sum() / own[:, 0].sum()])
  draws = own[rng.integers(len(own), size=(4000, len(own)))].sum(1)
  np.testing.assert_allclose(found.right_half, 1.96 * np.std(draws[:, 1] / draws[:, 0]), rtol=0.05)


def test_padding_and_users_without_queries_change_nothing():
  seen = people(np.random.default_rng(5), 600)
  nothing = Observed(*(np.full((600, 3), each) for each in (np.nan, np.nan, 0.0)))
  padded = Observed(*(np.concatenate(pair, 1) for pair in zip(seen, nothing)))
  nobody = Observed(*(np.zeros((7, NUM_QUERIES + 3)) for _ in range(3)))
  padded = Observed(*(np.concatenate(pair) for pair in zip(padded, nobody)))
  assert abstention.calibrate(padded, shots=4) == abstention.calibrate(seen, shots=4)


@pytest.mark.parametrize(
  ('changes', 'options', 'message'),
  [
    ({}, {'accuracy': 1.0}, 'accuracy must lie between 0 and 1, got 1.0'),
    ({}, {'level': 0.0}, 'level must lie between 0 and 1'),
    ({'weight': np.zeros((500, 8))}, {}, 'at least 500 users with queries, got 0'),
    ({'weight': np.full((500, 8), -1.0)}, {}, 'weight must be finite and at least 0'),
    ({'confidence': np.full((500, 8), np.nan)}, {}, r'confidence must lie in \[0, 1\]'),
    ({'correct': np.ones(8)}, {}, r'must be \[T, N\] each, got \[500, 8\], \[8\]'),
  ],
)
def test_mistakes_are_named(changes, options, message):
  seen = people(np.random.default_rng(0))._replace(**changes)
  with pytest.raises(ValueError, match=message):
    abstention.calibrate(seen, shots=4, **options)

"""The table of a population's disagreement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metapers.analysis import diversity
from metapers.data import personal_llm_constants, synthetic


def draw(seed, prompts=70, responses=4, users=9):
  rng = np.random.default_rng(seed)
  mask = rng.random((prompts, responses)) < 0.7
  mask[:, 0] = True
  rewards = rng.normal(size=(prompts, responses, 3)).astype(np.float32)
  return rewards, mask, rng.dirichlet(np.ones(3), users), rng.integers(0, 5, (prompts, responses))


@given(st.integers(0, 1000))
def test_votes_agree_with_an_argmax_for_every_user(seed):
  rewards, mask, weights, _ = draw(seed)
  counts = diversity.votes(np.where(mask[..., None], rewards, np.nan), mask, weights)
  scores = np.where(mask[..., None], rewards @ weights.T.astype(np.float32), -np.inf)
  brute = (scores.argmax(1)[:, None] == np.arange(4)[:, None]).sum(-1)
  np.testing.assert_array_equal(counts, brute)


def test_tied_responses_share_the_votes_at_random():
  rewards = np.array([[0.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, 3.0, 3.0]], np.float32)[..., None]
  mask = np.array([[True, False, True, True, True], [True, True, True, False, True]])
  counts = diversity.votes(rewards, mask, np.ones((3000, 1)))
  assert counts.sum(1).tolist() == [3000, 3000]
  assert counts[0, :2].tolist() == [0, 0] and counts[1].tolist() == [0, 0, 0, 0, 3000]
  np.testing.assert_allclose(counts[0, 2:], 1000, atol=110)


def test_the_table_agrees_with_a_count_by_hand():
  # Four users, one for each reward model; three prompts.
  best = np.array([[0, 0, 0, 0], [0, 0, 1, 2], [3, 2, 1, 0]])  # [P, U]
  rewards = (best[:, None] == np.arange(4)[:, None]).astype(np.float32)  # [P, R, B]
  mask, models = np.ones((3, 4), bool), np.array([[0, 1, 2, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
  table = diversity.diversity(rewards, mask, np.eye(4), models, num_response_models=5)
  np.testing.assert_allclose(table.top_share, [200 / 3, 200 / 3, 200 / 3])
  np.testing.assert_allclose(table.winners, [100 / 3, 100 / 3, 100 / 3, 0, 0])
  np.testing.assert_allclose(table.wins, np.array([7, 2, 2, 1, 0]) / 12 * 100)


def test_shares_add_up_and_empty_prompts_are_left_out():
  rewards, mask, weights, models = draw(0)
  table = diversity.diversity(rewards, mask, weights, models, num_response_models=5)
  np.testing.assert_allclose([table.winners.sum(), table.wins.sum()], 100)
  empty = mask.copy()
  empty[3] = False
  rest = np.arange(70) != 3
  expected = diversity.diversity(
    rewards[rest], mask[rest], weights, models[rest], num_response_models=5
  )
  found = diversity.diversity(rewards, empty, weights, models, num_response_models=5)
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_allclose(ours, theirs)


def test_the_published_rows_are_shares():
  for table in diversity.PAPER.values():
    np.testing.assert_allclose([table.winners.sum(), table.wins.sum()], 100, atol=0.5)
    assert np.all(np.diff(table.top_share) > 0)
    assert len(table.wins) == len(personal_llm_constants.RESPONSE_MODELS)


def test_no_users_or_no_prompts_are_refused():
  rewards, mask, weights, models = draw(0)
  with pytest.raises(ValueError, match='got 0 and 70'):
    diversity.diversity(rewards, mask, weights[:0], models, num_response_models=5)
  with pytest.raises(ValueError, match='got 9 and 0'):
    diversity.diversity(rewards, mask & False, weights, models, num_response_models=5)


def test_published_wins_follow_the_names_of_response_models():
  table = synthetic.synthetic_store(num_prompts=300)
  flipped = table._replace(
    response_model=7 - table.response_model, response_models=table.response_models[::-1]
  )
  straight, turned = (diversity.compare_with_paper(each, 0.05) for each in (table, flipped))
  np.testing.assert_allclose(turned.ours[-8:], straight.ours[:-9:-1])
  np.testing.assert_allclose(turned.paper[-8:], straight.paper[:-9:-1])


def test_other_response_models_have_nothing_to_be_compared_with():
  table = synthetic.synthetic_store(num_prompts=300)
  renamed = table._replace(response_models=tuple('abcdefgh'))
  assert diversity.compare_with_paper(renamed, 0.05).paper is None

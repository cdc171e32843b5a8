"""Votes of a population, and the published table of how much they differ."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metapers.analysis import diversity
from metapers.data import personal_llm_constants


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


def test_the_published_rows_are_shares():
  for table in diversity.PAPER.values():
    np.testing.assert_allclose([table.winners.sum(), table.wins.sum()], 100, atol=0.5)
    assert np.all(np.diff(table.top_share) > 0)
    assert len(table.wins) == len(personal_llm_constants.RESPONSE_MODELS)

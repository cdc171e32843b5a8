"""Looking up similar users, against loops."""

import numpy as np
import pytest

from metapers.analysis import slates, user_lookup
from metapers.analysis.study_frame import Whose, value_of
from metapers.analysis.user_lookup import EMBEDDINGS, Choice, Grid, Known
from metapers.data import synthetic

SMALL = Grid((1, 3), (1, 4), num_known=20, num_history=3, num_new=6, num_prompts=15)


@pytest.fixture(scope='module')
def both():
  table = synthetic.synthetic_store(num_prompts=300)
  return tuple(slates.slates_of(table, split=split) for split in ('train', 'test'))


@pytest.fixture(scope='module')
def drawn(both):
  return user_lookup.draw(*both, 0.1, grid=SMALL)


def test_histories_hold_the_best_and_worst_response_to_different_prompts(both):
  train, _ = both
  rng = np.random.default_rng(0)
  weights = rng.dirichlet(np.ones(10), 4)
  number = np.arange(train.mask.size, dtype=np.float32).reshape(*train.mask.shape, 1)
  history = user_lookup.interactions(rng, train, weights, 9)
  found = user_lookup.known_users(weights, number, history)
  rewards = np.einsum('prb,ub->upr', train.scores['z'], weights)
  for user in range(4):
    prompts = (found.winning[user, :, 0] // 8).astype(int)
    assert len(set(prompts)) == 9
    np.testing.assert_array_equal(found.winning[user, :, 0] % 8, rewards[user, prompts].argmax(1))
    np.testing.assert_array_equal(found.losing[user, :, 0] % 8, rewards[user, prompts].argmin(1))
  with pytest.raises(ValueError, match='999 interactions'):
    user_lookup.interactions(rng, train, weights, 999)


def test_embeddings_are_means_over_first_interactions():
  rng = np.random.default_rng(1)
  users = Known(np.ones((2, 1)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3)))
  won, lost = users.winning[:, :2].mean(1), users.losing[:, :2].mean(1)
  for kind, expected in zip(EMBEDDINGS, (won, lost, won - lost)):
    np.testing.assert_allclose(user_lookup.embed(users, kind, 2), expected)


def test_neighbours_are_nearest_by_cosine():
  own, known = np.array([[1.0, 0], [0, 2]]), np.array([[0.0, 1], [5, 1], [-1, 0]])
  assert user_lookup.nearest(own, known).tolist() == [[1, 0, 2], [0, 1, 2]]


def test_gain_is_the_share_of_what_the_best_response_gains():
  rng = np.random.default_rng(2)
  rewards, mask = rng.normal(size=(3, 4, 5)), rng.random((4, 5)) < 0.7
  mask[:, :2] = True
  picked = np.zeros((3, 4), int)
  picked[1] = 1
  taken, best, hits = [], [], []
  for user, prompt in np.ndindex(3, 4):
    real = rewards[user, prompt][mask[prompt]]
    taken.append(rewards[user, prompt, picked[user, prompt]] - real.mean())
    best.append(real.max() - real.mean())
    hits.append(rewards[user, prompt, picked[user, prompt]] == real.max())
  choice = Choice(np.zeros((4, 5, 1)), mask, rewards)
  gain, top = user_lookup.measured(choice, picked)
  assert gain.value == pytest.approx(sum(taken) / sum(best))
  assert top.value == pytest.approx(np.mean(hits))
  other = user_lookup.measured(choice, np.ones((3, 4), int))[0]
  found = user_lookup.difference(choice, picked, np.ones((3, 4), int))
  assert found.value == pytest.approx(gain.value - other.value)


def test_the_error_of_the_gain_is_that_of_many_samples():
  rng = np.random.default_rng(3)
  mask = np.ones((40, 3), bool)

  def sample():
    users, prompts = rng.normal(size=(20, 1, 1)), rng.exponential(size=(1, 40, 1))
    rewards = prompts * (np.array([1.0, 0, -1]) + users * np.array([1, -1, 0.0]))
    choice = Choice(np.zeros((40, 3, 1)), mask, rewards + 0.3 * rng.normal(size=(20, 40, 3)))
    return user_lookup.measured(choice, np.zeros((20, 40), int))[0]

  found = [sample() for _ in range(300)]
  claimed = np.sqrt(np.mean([one.standard_error**2 for one in found]))
  assert claimed == pytest.approx(np.std([one.value for one in found]), rel=0.2)


def test_lookup_picks_what_the_pooled_wins_of_the_nearest_point_to(drawn):
  new, known, choice = drawn
  made = dict(user_lookup.lookup_picks(new, known, choice, 'winning - losing', 3, (1, 4)))
  for user in range(len(new.weights)):
    own = (new.winning[user] - new.losing[user]).mean(0)
    others = (known.winning - known.losing).mean(1)
    cosine = others @ own / np.linalg.norm(others, axis=1) / np.linalg.norm(own)
    near = np.argsort(-cosine)
    for k in (1, 4):
      direction = (known.winning - known.losing)[near[:k]].sum((0, 1))
      scores = np.where(choice.mask, choice.features @ direction, -np.inf)
      np.testing.assert_array_equal(made[k][user], scores.argmax(1))


def test_baselines_know_nothing_of_the_user(drawn, both):
  _, test = both
  found = user_lookup.baselines(drawn, test, 2)
  shown = len(drawn.choice.mask)
  means = test.scores['z'][:shown].mean(-1).argmax(1)
  np.testing.assert_array_equal(found[user_lookup.COMMON], np.tile(means, (6, 1)))
  models = np.take_along_axis(test.response_model[:shown], found[user_lookup.MODEL][0][:, None], 1)
  assert (models == 2).all()
  assert (found[user_lookup.POOLED] == found[user_lookup.POOLED][0]).all()


def test_the_study_holds_the_whole_grid_and_an_oracle_would_gain_all(drawn, both):
  _, test = both
  frame = user_lookup.study(drawn, test, Whose('lookup'), winner=2, grid=SMALL)
  values = user_lookup.grid_values(frame, 'losing', SMALL)
  assert values.shape == (2, 2)
  assert values[1, 0] == value_of(frame, group='losing, n = 3, k = 1', statistic='gain')
  own = value_of(frame, group='own history, n = 3', statistic='gain')
  over = value_of(frame, group='losing, n = 3, k = 1', statistic='gain over own history')
  assert over == pytest.approx(values[1, 0] - own)
  best = drawn.choice.rewards.argmax(-1)
  np.testing.assert_allclose(user_lookup.measured(drawn.choice, best), [(1, 0), (1, 0)], atol=1e-6)


def test_new_users_are_no_known_ones(drawn):
  away = np.abs(drawn.new.weights[:, None] - drawn.known.weights).max(-1)
  assert away.min() > 1e-6


def test_without_features_z_scores_embed(both):
  train, test = (each._replace(features=None) for each in both)
  found = user_lookup.scaled(train, test)
  np.testing.assert_array_equal(found[1], test.scores['z'])
  shown = user_lookup.scaled(*both)[0][train.mask]
  np.testing.assert_allclose(shown.std(0), 1, rtol=1e-3)


def test_the_most_frequent_winner_is_counted(both):
  train, _ = both
  weights = np.eye(10)[:3]
  best = train.scores['z'][..., :3].argmax(1)
  models = np.take_along_axis(train.response_model, best, 1)
  expected = np.bincount(models.ravel()).argmax()
  assert user_lookup.most_frequent_winner(train, weights) == expected

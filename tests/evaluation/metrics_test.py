import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import metrics
from metapers.evaluation.predictions import Predictions

T, N, K, B, M, R = 4, 5, 3, 2, 6, 4
SHOTS = 2


def draw(seed=0):
  """Users, their truth and one learner's predictions; a few entries are masked."""
  rng = np.random.default_rng(seed)
  rewards = rng.normal(size=(T, N, K + 1, B)).astype(np.float32)  # the last one was not shown
  slate_rewards = rng.normal(size=(T, M, R, B)).astype(np.float32)
  weights = rng.dirichlet(np.ones(B), T).astype(np.float32)
  mask = rng.random((T, N)) < 0.8
  mask[:, 0] = True
  shown = np.ones((T, N, K), bool)
  shown[0, :, 2] = False
  choice = rng.integers(0, 2, (T, N))
  offered = Candidates(rewards[..., :K, :], shown)
  query = task.choices(*jax.tree.map(jnp.asarray, (offered, choice, mask)))
  slate_mask = rng.random((T, M, R)) < 0.8
  models = np.tile(np.arange(R), (T, M, 1))
  prompts, slate_prompts = rng.integers(0, 9, (T, N)), rng.integers(0, 9, (T, M))
  truth = Truth(
    weights,
    *(rewards, np.ones((T, N, K + 1), bool), prompts),
    *(rewards, np.ones((T, N, K + 1), bool), prompts),
    Candidates(slate_rewards, slate_mask),
    *(slate_rewards, slate_prompts, models),
  )
  log_probs = np.log(rng.dirichlet(np.ones(K), (SHOTS, T, N))).astype(np.float32)
  log_probs[:, 0] -= np.logaddexp(log_probs[:, 0, :, 0], log_probs[:, 0, :, 1])[..., None]
  scores = rng.normal(size=(SHOTS, T, M, R)).astype(np.float32)
  tasks = Task(query, query, np.arange(T), np.zeros((T, 0)))
  return jax.tree.map(jnp.asarray, (Predictions(log_probs, scores), tasks, truth))


def means(predictions, tasks, truth, **kwargs):
  return metrics.user_means(predictions, tasks, truth, **kwargs)


def real_comparisons(tasks, user):
  return np.flatnonzero(np.asarray(tasks.query.mask[user]))


def test_accuracy_nll_and_confidence_equal_a_loop():
  predictions, tasks, truth = draw()
  got = means(predictions, tasks, truth)
  for row in range(SHOTS):
    found = {'accuracy': [], 'nll': [], 'confidence': [], 'accuracy_noiseless': []}
    for user in range(T):
      size = 2 if user == 0 else 3
      lines = {name: [] for name in found}
      for n in real_comparisons(tasks, user):
        log_p = np.asarray(predictions.log_probs[row, user, n, :size])
        label = int(tasks.query.choice[user, n])
        liked = np.argmax(truth.query_rewards[user, n, :size] @ truth.weights[user])
        lines['accuracy'].append(log_p.argmax() == label)
        lines['accuracy_noiseless'].append(log_p.argmax() == liked)
        lines['nll'].append(-log_p[label])
        lines['confidence'].append(np.exp(log_p.max()))
      for name, line in lines.items():
        found[name].append(np.mean(line))
    for name, users in found.items():
      np.testing.assert_allclose(got[name][row], np.mean(users), rtol=1e-5, err_msg=name)


def test_picks_regret_and_wins_equal_a_loop():
  predictions, tasks, truth = draw()
  got = means(predictions, tasks, truth, rival=1)
  for row in range(SHOTS):
    names = 'top1', 'pick_reward', 'lost', 'spread', 'win_rate', 'win_rate_oracle'
    found = {name: [] for name in names}
    for user in range(T):
      top1, reward, lost, spread, won, ideal = [], [], [], [], [], []
      for m in range(M):
        there = np.flatnonzero(np.asarray(truth.slate.mask[user, m]))
        if len(there) < 2:
          continue
        utility = np.asarray(truth.slate_rewards[user, m] @ truth.weights[user])
        pick = there[np.argmax(np.asarray(predictions.slate_scores[row, user, m])[there])]
        best = utility[there].max()
        top1.append(utility[pick] == best)
        reward.append(utility[pick])
        lost.append(best - utility[pick])
        spread.append(best - utility[there].mean())
        if 1 in there:
          won.append((utility[pick] > utility[1]) + 0.5 * (pick == 1))
          ideal.append((best > utility[1]) + 0.5 * (best == utility[1]))
      found['top1'].append(np.mean(top1))
      found['pick_reward'].append(np.mean(reward))
      found['lost'].append(np.mean(lost))
      found['spread'].append(np.mean(spread))
      found['win_rate'].append(np.mean(won))
      found['win_rate_oracle'].append(np.mean(ideal))
    regret = np.mean(found.pop('lost')) / np.mean(found.pop('spread'))
    np.testing.assert_allclose(got['regret'][row], regret, rtol=2e-5)
    for name, users in found.items():
      np.testing.assert_allclose(got[name][row], np.mean(users), rtol=2e-5, err_msg=name)


def test_the_true_reward_has_no_regret_and_picks_the_best():
  predictions, tasks, truth = draw()
  scores = jnp.einsum('tmrb,tb->tmr', truth.slate_rewards, truth.weights)
  ideal = predictions._replace(slate_scores=jnp.stack([scores, 3 * scores + 1]))
  got = means(ideal, tasks, truth, rival=2)
  np.testing.assert_allclose(got['regret'], 0.0, atol=1e-6)
  np.testing.assert_allclose(got['top1'], 1.0)
  np.testing.assert_allclose(got['win_rate'], got['win_rate_oracle'])


def test_a_constant_score_is_worth_a_random_pick():
  predictions, tasks, truth = draw()
  truth = truth._replace(slate=truth.slate._replace(mask=jnp.ones((T, M, R), bool)))
  got = means(jax.tree.map(jnp.zeros_like, predictions), tasks, truth)
  np.testing.assert_allclose(got['regret'], 1.0, rtol=1e-5)
  np.testing.assert_allclose(got['top1'], 1 / R, rtol=1e-6)
  by_user = 1 / jnp.array([2.0, 3.0, 3.0, 3.0])  # one candidate of user 0 is masked
  np.testing.assert_allclose(got['accuracy'], by_user.mean(), rtol=1e-6)


def test_picking_what_the_rival_wrote_is_half_a_win():
  predictions, tasks, truth = draw()
  scores = jnp.broadcast_to(jax.nn.one_hot(1, R), predictions.slate_scores.shape)
  got = means(predictions._replace(slate_scores=scores), tasks, truth, rival=1)
  np.testing.assert_allclose(got['win_rate'], 0.5)


def test_masked_entries_change_nothing_even_nan():
  predictions, tasks, truth = draw()
  expected = means(predictions, tasks, truth, rival=1)
  shown = tasks.query.mask[..., None] & tasks.query.candidates.mask
  there = truth.slate.mask
  extra = jnp.ones((T, N, 1), bool)  # the candidate that was not shown is evidence, not evaluated
  evaluated = jnp.concatenate([shown, ~extra], -1)
  spoiled = predictions._replace(
    log_probs=jnp.where(shown, predictions.log_probs, jnp.nan),
    slate_scores=jnp.where(there, predictions.slate_scores, jnp.nan),
  )
  truth = truth._replace(
    query_rewards=jnp.where(evaluated[..., None], truth.query_rewards, jnp.nan),
    slate_rewards=jnp.where(there[..., None], truth.slate_rewards, jnp.nan),
  )
  got = means(spoiled, tasks, truth, rival=1)
  assert expected.keys() == got.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


def test_a_user_counts_as_much_as_another_however_many_comparisons():
  predictions, tasks, _ = draw()
  mask = jnp.zeros((T, N), bool).at[0].set(True).at[1, 0].set(True)
  choice = jnp.where(jnp.arange(T)[:, None] == 0, 0, 1) * jnp.ones((T, N), int)
  tasks = tasks._replace(query=tasks.query._replace(mask=mask, choice=choice))
  always_first = jnp.log(jnp.broadcast_to(jnp.array([0.8, 0.1, 0.1]), (SHOTS, T, N, K)))
  got = means(predictions._replace(log_probs=always_first), tasks, None)
  np.testing.assert_allclose(got['accuracy'], 0.5)  # 5 of 5 right and 0 of 1; two have none


def test_real_people_are_evaluated_on_their_labels_alone():
  predictions, tasks, _ = draw()
  assert set(means(predictions, tasks, None)) == {'accuracy', 'nll', 'confidence'}


def with_weight(tasks, weight):
  return tasks._replace(query=tasks.query._replace(weight=jnp.asarray(weight, jnp.float32)))


def test_weight_two_is_the_comparison_twice():
  predictions, tasks, truth = draw()
  weighted = with_weight(tasks, np.ones((T, N)) + (np.arange(N) == 2))
  twice = jnp.array([*range(N), 2])
  query = jax.tree.map(lambda x: x[:, twice], tasks.query)
  doubled = truth._replace(
    query_rewards=truth.query_rewards[:, twice],
    query_mask=truth.query_mask[:, twice],
    query_prompts=truth.query_prompts[:, twice],
  )
  repeated = predictions._replace(log_probs=predictions.log_probs[:, :, twice])
  got = means(predictions, weighted, truth)
  expected = means(repeated, tasks._replace(query=query), doubled)
  plain = means(predictions, tasks, truth)
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)
  assert not np.allclose(got['accuracy'], plain['accuracy'])


def test_weight_zero_is_a_masked_comparison_even_nan():
  predictions, tasks, truth = draw()
  counts = jnp.broadcast_to(jnp.arange(N) != 2, (T, N))
  masked = tasks._replace(query=tasks.query._replace(mask=tasks.query.mask & counts))
  spoiled = predictions._replace(
    log_probs=jnp.where(counts[None, ..., None], predictions.log_probs, jnp.nan)
  )
  weightless = with_weight(tasks, counts)
  got, expected = means(spoiled, weightless, truth), means(predictions, masked, truth)
  for name, value in expected.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize('num_real', [0, 1])
def test_a_slate_without_a_choice_does_not_count(num_real):
  predictions, tasks, truth = draw()
  without = truth.slate.mask.at[:, 0].set(jnp.arange(R) < num_real)
  truth = truth._replace(slate=truth.slate._replace(mask=without))
  expected = jax.tree.map(lambda x: x[:, :, 1:], predictions.slate_scores)
  rest = truth._replace(
    slate=jax.tree.map(lambda x: x[:, 1:], truth.slate),
    slate_rewards=truth.slate_rewards[:, 1:],
    slate_prompts=truth.slate_prompts[:, 1:],
    slate_models=truth.slate_models[:, 1:],
  )
  whole = means(predictions, tasks, truth)
  fewer = means(predictions._replace(slate_scores=expected), tasks, rest)
  for name, value in fewer.items():
    np.testing.assert_allclose(whole[name], value, rtol=1e-6, err_msg=name)

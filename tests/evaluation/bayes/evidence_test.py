import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparison_likelihood import log_joint

from metapers.evaluation.bayes import evidence
from metapers.evaluation.bayes.evidence import Rule, UserModels
from metapers.populations import choice_rules

NUM, MODELS, PARTICLES = 12, 3, 5
RULES = [
  Rule('random', 2), Rule('controversial', 2), Rule('extreme', 2), Rule('best_of_k', 4)
]  # fmt: skip
NOISE = [(0.0, 0.0), (0.7, 0.0), (0.0, 0.2), (0.5, 0.1)]


def comparisons(rule):
  """Rewards that put the pair shown at the ends of the slate for some weights, with masks."""
  size = choice_rules.num_evidence(rule.pair_rule, rule.num_candidates, 5)
  rewards = jax.random.normal(jax.random.key(0), (NUM, size, MODELS))
  rewards = rewards.at[: NUM // 2, 0].add(2).at[: NUM // 2, 1].add(-2)
  mask = jnp.ones((NUM, size), bool)
  return rewards, mask.at[::3, -1].set(False) if size > 2 else mask


@pytest.mark.parametrize('rule', RULES, ids=str)
@pytest.mark.parametrize(('temperature', 'flip_rate'), NOISE)
def test_it_is_the_rule_of_the_simulator(rule, temperature, flip_rate):
  rewards, mask = comparisons(rule)
  log_weights = jax.random.normal(jax.random.key(1), (MODELS, PARTICLES))
  weights = jax.nn.softmax(log_weights, 0)
  utilities = jnp.moveaxis(rewards @ weights, -1, 0)  # [S, N, E]
  expected = log_joint(
    utilities,
    jnp.broadcast_to(mask, utilities.shape),
    pair_rule=rule.pair_rule,
    num_candidates=rule.num_candidates,
    temperature=jnp.float32(temperature),
    flip_rate=jnp.float32(flip_rate),
  )
  user_models = UserModels(*(jnp.full(PARTICLES, x) for x in (1.0, temperature, flip_rate)))
  for choice in range(rule.num_candidates):
    asked = evidence.evidence_of(rewards, mask, jnp.full(NUM, choice), rule=rule)
    p = evidence.probability(asked.contrasts @ weights, asked.mask, user_models, rule=rule)
    real = np.asarray(mask[:, choice])
    wanted = np.exp(expected[..., choice].T)
    np.testing.assert_allclose(p[real], wanted[real], rtol=1e-4, atol=1e-6)


def test_ties_without_noise_are_shared_equally():
  gaps = jnp.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)
  user_models = UserModels(jnp.ones(1), jnp.zeros(1), jnp.zeros(1))
  p = evidence.probability(gaps, jnp.ones((3, 1), bool), user_models, rule=Rule('best_of_k', 4))
  np.testing.assert_allclose(p, 1 / 3, rtol=1e-6)


def test_joint_of_extreme_rules_out_other_pairs():
  utilities = jnp.array([[3.0, -1.0, 0.0, 1.0], [3.0, -1.0, -2.0, 1.0]])  # the pair is first
  log_p = log_joint(
    utilities, jnp.ones((2, 4), bool), pair_rule='extreme', num_candidates=2,
    temperature=jnp.asarray(1.0), flip_rate=jnp.asarray(0.0),
  )  # fmt: skip
  np.testing.assert_allclose(jnp.exp(log_p[0]).sum(), 1, rtol=1e-5)
  assert np.all(np.isneginf(log_p[1]))

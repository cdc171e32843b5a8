import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import pair_encoder
from metapers.networks.attention import Sizes

SIZES = Sizes(width=4, hidden=6, num_layers=1, num_heads=2)
ALL = jnp.ones((2, 3), bool)
EMBEDDING = jnp.array([[[1.0], [2.0], [6.0]], [[5.0], [7.0], [9.0]]])


def comparisons(embedding=EMBEDDING, mask=ALL):
  return task.choices(Candidates(embedding, mask), jnp.array([2, 0]))


def test_a_token_is_the_chosen_candidate_beside_the_mean_of_the_others():
  mask = ALL.at[1, 2].set(False)
  support = comparisons(mask=mask)
  found = pair_encoder.tokens(EMBEDDING, support, odd=False)
  np.testing.assert_allclose(found, [[6.0, 1.5], [5.0, 7.0]])
  swapped = pair_encoder.tokens(EMBEDDING, support, odd=False, swapped=True)
  np.testing.assert_allclose(swapped, [[1.5, 6.0], [7.0, 5.0]])


def test_odd_tokens_turn_their_sign_when_swapped():
  found = pair_encoder.tokens(EMBEDDING, comparisons(), odd=True)
  np.testing.assert_allclose(found, [[4.5], [-3.0]])
  swapped = pair_encoder.tokens(EMBEDDING, comparisons(), odd=True, swapped=True)
  np.testing.assert_allclose(swapped, -found)


@pytest.mark.parametrize('num_slots', [0, 3])
@pytest.mark.parametrize('odd', [True, False])
def test_swapping_is_answering_the_opposite_and_weights_are_copies(num_slots, odd):
  network = pair_encoder.pair_encoder(2, SIZES, num_slots, odd=odd)
  params = network.init(jax.random.key(0))
  apply = jax.jit(network.apply, static_argnums=2)
  features = jax.random.normal(jax.random.key(1), (3, 2, 2), jnp.float32)
  support = task.choices(Candidates(features, jnp.ones((3, 2), bool)), jnp.array([0, 1, 1]))
  opposite = support._replace(choice=1 - support.choice)
  swapped = apply(params, support, True)
  np.testing.assert_allclose(swapped, apply(params, opposite), rtol=1e-4, atol=1e-5)
  assert not np.allclose(swapped, apply(params, support), atol=1e-3)

  weighted = support._replace(weight=jnp.array([2.0, 0.0, 1.0]))
  copies = task.take(support, jnp.array([2, 0, 0]))
  np.testing.assert_allclose(apply(params, weighted), apply(params, copies), rtol=1e-4, atol=1e-5)
  # A masked comparison is none, whatever its weight says.
  masked = support._replace(mask=jnp.array([True, False, True]))
  unmasked = support._replace(weight=jnp.array([1.0, 0.0, 1.0]))
  np.testing.assert_allclose(apply(params, masked), apply(params, unmasked), rtol=1e-5, atol=1e-6)

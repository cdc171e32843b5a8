import jax.numpy as jnp
import numpy as np
import pytest

from metapers.llm import prompting

MASK = np.array([[False, False, True, True, True], [True] * 5, [False] * 5])
TOKENS = np.arange(1.0, 16.0, dtype=np.float32).reshape(3, 5, 1)
SOFT = -np.arange(1.0, 7.0, dtype=np.float32).reshape(3, 2, 1)


@pytest.mark.parametrize(
  ('has_bos', 'expected'),
  [
    (True, [[1, 2, 3, -1, -2, 4, 5], [6, -3, -4, 7, 8, 9, 10]]),
    (False, [[1, 2, -1, -2, 3, 4, 5], [-3, -4, 6, 7, 8, 9, 10]]),
  ],
)
def test_soft_tokens_stand_after_padding_and_the_token_that_begins(has_bos, expected):
  inputs = prompting.Inputs(jnp.array(TOKENS), jnp.array(MASK))
  found = prompting.with_soft_prompt(inputs, jnp.array(SOFT), has_bos=has_bos)
  np.testing.assert_array_equal(found.embeddings[:2, :, 0], expected)
  np.testing.assert_array_equal(found.mask[:2], [[False] * 2 + [True] * 5, [True] * 7])
  assert sorted(found.embeddings[2, :, 0]) == [-6, -5, 11, 12, 13, 14, 15]
  assert found.mask[2].sum() == 2


def test_a_response_on_the_right_stays_where_it_is():
  mask = np.array([[False, True, True, True, False]])
  inputs = prompting.Inputs(jnp.array(TOKENS[:1]), jnp.array(mask))
  found = prompting.with_soft_prompt(inputs, jnp.array(SOFT[:1]), has_bos=True)
  np.testing.assert_array_equal(found.embeddings[0, :, 0], [1, 2, -1, -2, 3, 4, 5])
  np.testing.assert_array_equal(found.mask[0], [False] + [True] * 5 + [False])


@pytest.mark.parametrize('num_pads', [0, 2])
def test_soft_tokens_that_are_not_real_are_masked(num_pads):
  mask = (jnp.arange(5) >= num_pads)[None]
  inputs = prompting.Inputs(jnp.arange(1.0, 6.0)[None, :, None], mask)
  soft, is_real = jnp.array([[[-1.0], [-2.0], [-3.0]]]), jnp.array([[True, False, True]])
  found = prompting.with_soft_prompt(inputs, soft, has_bos=True, soft_mask=is_real)
  real = np.asarray(found.embeddings[0, :, 0])[np.asarray(found.mask[0])]
  np.testing.assert_array_equal(real, [1.0 + num_pads, -1, -3, *np.arange(2.0 + num_pads, 6)])


def test_leading_axes_are_batches():
  inputs = prompting.Inputs(jnp.array(TOKENS[None]), jnp.array(MASK[None]))
  nested = prompting.with_soft_prompt(inputs, jnp.array(SOFT[None]), has_bos=True)
  flat = prompting.Inputs(jnp.array(TOKENS), jnp.array(MASK))
  plain = prompting.with_soft_prompt(flat, jnp.array(SOFT), has_bos=True)
  np.testing.assert_array_equal(nested.embeddings[0], plain.embeddings)


@pytest.mark.parametrize(
  ('side', 'expected'), [('left', [[0, 5, 6], [7, 8, 9]]), ('right', [[5, 6, 0], [7, 8, 9]])]
)
def test_rows_of_tokens_are_padded(side, expected):
  tokens, mask = prompting.padded([[5, 6], [7, 8, 9]], side=side)
  np.testing.assert_array_equal(tokens, expected)
  np.testing.assert_array_equal(mask, np.array(expected) > 0)
  longer, _ = prompting.padded([[5, 6], [7, 8, 9]], side=side, length=4)
  assert longer.shape == (2, 4) and longer.dtype == np.int32


def test_rows_that_are_too_long_or_a_side_that_there_is_not_are_refused():
  with pytest.raises(ValueError, match='row 1 has 3 tokens, more than length=2'):
    prompting.padded([[5, 6], [7, 8, 9]], side='left', length=2)
  with pytest.raises(ValueError, match="side must be 'left' or 'right', got 'top'"):
    prompting.padded([[5]], side='top')

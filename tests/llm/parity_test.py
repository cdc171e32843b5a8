"""Logits of every family beside those of torch, from the same files."""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_checkpoints
import torch

from metapers.llm import decoder, hf_config, load

EXACT = 1e-4  # of logits whose standard deviation is about 1.5
ROUNDED = 0.5  # in bfloat16, of which 8 bits are left
AS_TORCH = 1.3  # ours over torch's own error of bfloat16, root mean squares
LENGTH, LONG = 24, 4096
# One head of keys, for torch keeps the shares of all heads at 4,096 x 4,096 places.
NARROW = {'num_attention_heads': 2, 'num_key_value_heads': 1, 'head_dim': 8}


def both(family, length, dtype='float32', **changes):
  """Returns logits [rows, length, V] of ours and of torch, and the mask."""
  rows = slice(None if length == LENGTH else 1)
  tokens, mask = (x[rows] for x in tiny_checkpoints.draw(length))
  with tempfile.TemporaryDirectory() as folder:
    tiny_checkpoints.save(folder, family, changes=changes)
    model = decoder.decoder(hf_config.read(folder))
    params = load.params(folder, dtype=jnp.dtype(dtype))
  made = tiny_checkpoints.model(family, getattr(torch, dtype), **changes)

  @jax.jit
  def logits(params, tokens, mask):
    return model.logits(params, model.hidden(params, model.embed(params, tokens), mask))

  found = np.asarray(logits(params, tokens, mask))
  assert found.dtype == np.float32 and np.isfinite(found).all()
  return found, tiny_checkpoints.logits(made, tokens, mask), mask


def difference(family, length, **options):
  """Returns the largest difference of logits at real positions of each row, [rows]."""
  found, expected, mask = both(family, length, **options)
  assert expected[mask].std() > 1  # a difference is seen
  return np.where(mask[..., None], np.abs(found - expected), 0).max((1, 2))


@functools.cache
def differences(family):
  """Returns name of a column -> largest difference."""
  whole, left, right = difference(family, LENGTH)
  (long,) = difference(family, LONG, **NARROW)
  rounded = difference(family, LENGTH, dtype='bfloat16').max()
  return {'whole': whole, 'left': left, 'right': right, '4,096': long, 'bfloat16': rounded}


@pytest.mark.parametrize('family', ['llama 3.1', 'qwen2', 'qwen3', 'gemma'])
def test_bfloat16_is_as_far_from_float32_as_that_of_torch(family):
  ours, theirs, mask = both(family, LENGTH, dtype='bfloat16')
  exact = both(family, LENGTH)[1]
  of_ours, of_theirs = (((x - exact)[mask] ** 2).mean() ** 0.5 for x in (ours, theirs))
  assert 0 < of_ours < AS_TORCH * of_theirs


@pytest.mark.parametrize('family', tiny_checkpoints.FAMILIES)
def test_logits_are_those_of_torch(family):
  found = dict(differences(family))
  assert found.pop('bfloat16') < ROUNDED
  assert max(found.values()) < EXACT, found


def test_a_table_shows_every_family(capsys):
  rows = {family: differences(family) for family in tiny_checkpoints.FAMILIES}
  columns = list(next(iter(rows.values())))
  lines = ['| largest difference of logits | ' + ' | '.join(columns) + ' |']
  lines += ['|---' * (len(columns) + 1) + '|']
  for family, row in rows.items():
    lines.append(f'| {family} | ' + ' | '.join(f'{value:.1e}' for value in row.values()) + ' |')
  with capsys.disabled():
    print('\n' + '\n'.join(lines))
  assert len(rows) == len(tiny_checkpoints.FAMILIES)

"""What the reference says: that of the decoder, once for equal tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_policies import BASE, MODEL, comparisons

from metapers.core import task
from metapers.llm import p_dpo, reference


def repeated():
  """Comparisons of which some are there twice, with nothing of the reference, and one masked."""
  given = task.concat(comparisons(5), comparisons(5))
  blank = {**given.candidates.features, 'reference': jnp.full((10, 2), 9.0)}
  mask = given.candidates.mask.at[3, 1].set(False)
  return given._replace(candidates=given.candidates._replace(features=blank, mask=mask))


@pytest.mark.parametrize('chunk_size', [1, 4, 256])
def test_it_is_what_the_decoder_says(chunk_size):
  given = repeated()
  found = reference.with_reference(MODEL, BASE, given, chunk_size=chunk_size).candidates
  expected = p_dpo.log_probs(MODEL, BASE, given.candidates.features)
  np.testing.assert_allclose(
    found.features['reference'], jnp.where(found.mask, expected, 0), rtol=1e-5
  )


def test_equal_tokens_are_computed_once(monkeypatch):
  given = repeated()
  asked, compute = [], reference._reference

  def counted(model, base, features):
    asked.append(features['prompt'].shape[0])
    return compute(model, base, features)

  monkeypatch.setattr(reference, '_reference', counted)
  known = {}
  first = reference.with_reference(MODEL, BASE, given, chunk_size=3, found=known)
  assert len(known) == 10 and asked == [3, 3, 3, 3]
  again = reference.with_reference(MODEL, BASE, given, chunk_size=3, found=known)
  assert len(asked) == 4
  jax.tree.map(np.testing.assert_array_equal, again, first)


def test_what_was_computed_is_kept_before_it_is_done_and_read_to_the_bit(tmp_path, monkeypatch):
  monkeypatch.setattr(reference, 'UNSAVED', 0.0)
  given, sizes, path = repeated(), [], tmp_path / 'reference.npz'

  def save(found):
    sizes.append(len(reference.read(reference.write(path, found))))

  found = {}
  first = reference.with_reference(MODEL, BASE, given, chunk_size=3, found=found, save=save)
  assert sizes == [3, 6, 9, 10, 10] and reference.read(path) == found
  monkeypatch.setattr(reference, '_reference', None)  # nothing is computed again
  again = reference.with_reference(MODEL, BASE, given, found=reference.read(path), save=save)
  jax.tree.map(np.testing.assert_array_equal, again, first)
  assert len(sizes) == 5 and reference.read(tmp_path / 'none.npz') == {}


def test_no_comparisons_are_no_work():
  nothing = jax.tree.map(lambda x: x[:0], comparisons(2))
  assert reference.with_reference(MODEL, BASE, nothing).choice.shape == (0,)

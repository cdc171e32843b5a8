import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metapers.core import task
from metapers.core.task import Candidates


def made(num_comparisons=5, num_candidates=3, num_features=2):
  shape = (num_comparisons, num_candidates)
  features = jnp.arange(num_comparisons * num_candidates * num_features, dtype=float)
  return task.choices(
    Candidates(features.reshape(*shape, num_features), jnp.ones(shape, bool)),
    jnp.arange(num_comparisons) % num_candidates,
  )


@settings(max_examples=50)
@given(hnp.arrays(bool, 6), st.integers(0, 8))
def test_with_shots_keeps_the_first_real_comparisons(mask, shots):
  support = made(6)._replace(mask=jnp.asarray(mask))
  kept = np.flatnonzero(task.with_shots(support, shots).mask)
  assert kept.tolist() == np.flatnonzero(mask)[:shots].tolist()


@pytest.mark.parametrize('shots', [2, 4, 9])
def test_a_window_is_the_last_of_what_there_is(shots):
  support = made(6)._replace(mask=jnp.array([1, 0, 1, 1, 0, 1], bool))
  kept = np.flatnonzero(task.latest(support, shots, 3).mask)
  np.testing.assert_array_equal(kept, np.array([0, 2, 3, 5])[:shots][-3:])


def test_with_shots_edits_only_the_mask():
  support = made()
  cut = task.with_shots(support, 2)
  assert cut.candidates is support.candidates
  assert cut.choice is support.choice


def test_padding_adds_masked_comparisons_only():
  padded = task.pad_to(made(5), 8)
  assert padded.choice.shape == (8,)
  assert padded.mask.tolist() == [True] * 5 + [False] * 3
  assert not padded.candidates.mask[5:].any()


def test_padding_to_less_is_an_error():
  with pytest.raises(ValueError, match='cannot pad 5 comparisons to 3'):
    task.pad_to(made(5), 3)


def test_concat_keeps_both_in_order():
  joined = task.concat(made(2), made(3))
  np.testing.assert_array_equal(joined.choice, [0, 1, 0, 1, 2])


def test_drop_masked_leaves_nothing_behind():
  support = made()
  features = support.candidates.features.at[1, 2].set(jnp.nan)
  spoiled = support._replace(
    candidates=Candidates(features, support.candidates.mask.at[1, 2].set(False)),
    mask=support.mask.at[0].set(False),
    choice=support.choice + 99,
    weight=support.weight.at[0].set(jnp.nan),
  )
  clean = task.drop_masked(spoiled)
  assert np.all(np.isfinite(clean.candidates.features))
  assert clean.choice[0] == 0
  assert clean.weight.tolist() == [0, 1, 1, 1, 1]
  assert not clean.candidates.mask[0].any()


def test_comparisons_are_real_and_count_once_by_default():
  support = made(3)
  assert support.mask.tolist() == [True] * 3
  assert support.weight.tolist() == [1.0] * 3


def test_shots_and_counts_count_comparisons_and_not_weights():
  support = made(4)._replace(weight=jnp.array([5.0, 0.0, 2.0, 1.0]))
  kept = task.with_shots(support, 3)
  assert kept.mask.tolist() == [True, True, True, False]
  assert task.num_comparisons(kept) == 3
  assert task.total_weight(kept) == 7


def test_masked_entries_of_a_tree_become_zeros_of_their_own_dtype():
  tokens = jnp.arange(12).reshape(2, 3, 2)
  features = {'tokens': tokens, 'scores': jnp.full((2, 3), jnp.nan), 'known': tokens > 0}
  mask = jnp.array([[True, False, True], [False, False, False]])
  filled = task.fill_masked(Candidates(features, mask)).features
  assert {name: x.dtype for name, x in filled.items()} == {
    name: x.dtype for name, x in features.items()
  }
  np.testing.assert_array_equal(filled['tokens'], tokens * mask[..., None])
  np.testing.assert_array_equal(np.isnan(filled['scores']), mask)
  assert filled['known'].sum() == 3  # the very first token is 0

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
    jnp.ones(num_comparisons, bool),
  )


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, 6), st.integers(0, 8))
def test_with_shots_keeps_the_first_real_comparisons(mask, shots):
  seen = made(6)._replace(mask=jnp.asarray(mask))
  kept = np.flatnonzero(task.with_shots(seen, shots).mask)
  assert kept.tolist() == np.flatnonzero(mask)[:shots].tolist()


def test_with_shots_edits_only_the_mask():
  seen = made()
  cut = task.with_shots(seen, 2)
  assert cut.candidates is seen.candidates
  assert cut.choice is seen.choice


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
  seen = made()
  features = seen.candidates.features.at[1, 2].set(jnp.nan)
  mask = seen.candidates.mask.at[1, 2].set(False)
  seen = seen._replace(
    candidates=Candidates(features, mask), mask=seen.mask.at[0].set(False), choice=seen.choice + 99
  )
  clean = task.drop_masked(seen)
  assert np.all(np.isfinite(clean.candidates.features))
  assert clean.choice[0] == 0
  assert not clean.candidates.mask[0].any()


def with_candidates(choices, **changes):
  return choices._replace(candidates=choices.candidates._replace(**changes))


def without_candidates(choices, where):
  return with_candidates(choices, mask=choices.candidates.mask.at[where].set(False))


SPOILED = [
  (lambda c: c._replace(choice=c.choice + 7), 'choice must lie in 0..2'),
  (lambda c: c._replace(choice=c.choice[:2]), 'shapes do not fit'),
  (lambda c: without_candidates(c, (0, 0)), 'chosen candidate of a real comparison is masked'),
  (lambda c: without_candidates(c, (0, slice(1, 3))), 'at least two real candidates'),
  (lambda c: with_candidates(c, features=c.candidates.features * jnp.nan), 'must be finite'),
]


@pytest.mark.parametrize(('spoil', 'message'), SPOILED)
def test_validate_names_what_is_wrong(spoil, message):
  with pytest.raises(ValueError, match=message):
    task.validate(spoil(made()))


def test_validate_accepts_what_is_right():
  assert task.validate(made()) is not None

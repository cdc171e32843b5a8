"""Preferences of served users that changed: found, of one and of many, and forgotten."""

import functools

import jax
import numpy as np
import pytest
from served_learners import D, close, draw, export, same

from metapers import learners
from metapers.io import leaves
from metapers.serving import changes
from metapers.serving.personalizer import Personalizer, pairs

CAPACITY, CHANGE, N = 32, 12, 24
KWARGS = {'num_features': D, 'num_particles': 128, 'num_outside': 16}


def exported(name, kwargs):
  params = learners.make(name, **kwargs).init(jax.random.key(0))
  return export('pooled', learner=name, kwargs=kwargs, params=leaves.named(params))


@functools.cache
def model(name='dirichlet_mixture'):
  if name == 'dirichlet_mixture':
    return Personalizer(exported(name, KWARGS), capacity=CAPACITY)
  return Personalizer(export(name), capacity=CAPACITY)


def clicks(change_at, seed=0, count=N):
  """Returns comparisons that feature 0 decides, and from a turn on feature 1."""
  shown = 2 * draw(count, 2, seed=seed)
  feature = np.where(np.arange(count) < change_at, 0, 1)
  value = np.take_along_axis(shown, feature[:, None, None], -1)[..., 0]
  order = np.argsort(-value, -1)[..., None]
  return np.swapaxes(np.take_along_axis(shown, order, 1), 0, 1)  # [2, N, D], the chosen first


def adapted(change_at, seed=0):
  return model().adapt(pairs(*clicks(change_at, seed)))


def test_a_change_is_believed_and_dated_and_constancy_is_not():
  found, still = (model().changed(adapted(at)) for at in (CHANGE, N))
  assert found.probability > 0.8 > 0.2 > still.probability
  assert abs(int(found.since.argmax()) - CHANGE) <= 2
  np.testing.assert_allclose(found.since.sum(), 1, rtol=1e-5)
  assert (np.diff(found.outdated[:N]) <= 1e-6).all()
  assert found.since.shape == found.outdated.shape == (CAPACITY,)
  assert not found.since[N:].any() and not found.outdated[N:].any()


def test_many_changed_as_each_one_did():
  shown = np.stack([clicks(at, seed) for at, seed in ((CHANGE, 0), (N, 1), (4, 2))], 1)
  mask = np.ones((3, N), bool)
  mask[1, 5:] = False
  users = model().adapt(pairs(*shown, mask=mask))
  found = model().changed(users)
  assert found.since.shape[0] == 3
  for index in range(3):
    alone = model().changed(model().user(users, index))
    close(alone.since, found.since[index])
    close(alone.outdated, found.outdated[index])


def test_a_new_user_has_not_changed():
  found = model().changed(model().adapt())
  assert found.probability == 0
  same(found.since, np.eye(CAPACITY)[0].astype(np.float32))


def test_what_is_outdated_is_forgotten_bit_for_bit():
  profile = adapted(CHANGE)
  found = model().changed(profile)
  kept = found.outdated[:N] < 0.5
  assert 0 < kept.sum() < N
  rest = model().forget_outdated(profile, level=0.5)
  shown, ids = clicks(CHANGE), np.flatnonzero(kept)
  same(rest, model().adapt(pairs(*shown[:, ids], ids=ids)))


def test_of_those_who_did_not_change_nothing_is_forgotten():
  profile = adapted(N)
  same(model().forget_outdated(profile), profile)
  same(model().forget_outdated(adapted(CHANGE), hazard=0.0), adapted(CHANGE))


def test_a_learner_without_update_is_asked_too():
  profile = model('gaussian_prior').adapt(pairs(*clicks(CHANGE)))
  found = model('gaussian_prior').changed(profile)
  np.testing.assert_allclose(found.since.sum(), 1, rtol=1e-5)
  # No comparison is left without a change; where a change cannot be, nothing is outdated.
  assert model('gaussian_prior').changed(profile, hazard=0.0).probability == 0


@pytest.mark.parametrize(('options', 'message'), [
  ({'hazard': 1.0}, 'hazard must'), ({'hazard': -0.1}, 'hazard must'),
  ({'level': 0.0}, 'level must'), ({'level': 1.1}, 'level must'),
])  # fmt: skip
def test_what_is_no_probability_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    model().forget_outdated(adapted(CHANGE), **options)


def test_stretches_have_no_surprise_of_a_user():
  kwargs = {'num_features': D, 'inner': {'name': 'dirichlet_mixture', 'num_particles': 16,
                                         'num_outside': 4}, 'num_starts': 2}  # fmt: skip
  served = Personalizer(exported('resetting', kwargs), capacity=CAPACITY)
  profile = served.adapt(pairs(*clicks(CHANGE)))
  with pytest.raises(ValueError, match='resetting weighs no members'):
    served.surprise(profile)
  assert changes.HAZARD < changes.LEVEL

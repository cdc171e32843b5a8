"""The alarm of a served hedge: of one and of many, after forgetting, from files."""

import jax
import numpy as np
import pytest
from served_learners import CAPACITY, D, draw, export, same, served

from metapers import learners
from metapers.core.surprise import Surprise
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving.personalizer import Personalizer, pairs

KWARGS = {'num_features': D, 'members': {'plain': {'name': 'pooled', 'hidden': [3]}},
          'own_from': 'plain'}  # fmt: skip


@pytest.fixture(scope='module')
def small():
  params = learners.make('hedge', **KWARGS).init(jax.random.key(0))
  return export('pooled', learner='hedge', kwargs=KWARGS, params=leaves.named(params))


@pytest.fixture(scope='module')
def model(small):
  return Personalizer(small, capacity=CAPACITY)


def one_sided(*users, count=6, seed=0):
  """Returns comparisons in which feature 0 alone decides."""
  shown = draw(*users, count, 2, seed=seed)
  flip = (shown[..., :1, 0] < shown[..., 1:, 0])[..., None]
  shown = np.where(flip, shown[..., ::-1, :], shown)
  return pairs(shown[..., 0, :], shown[..., 1, :])


def test_many_are_surprising_as_each_one_is(model):
  given = one_sided(3)
  users = model.adapt(given)
  found = model.surprise(users)
  assert isinstance(found, Surprise)
  assert found.log_ratio.shape == found.is_flagged.shape == found.probability(0.1).shape == (3,)
  assert np.all(found.largest >= np.maximum(found.log_ratio, 0))
  for index in range(3):
    alone = model.surprise(model.user(users, index))
    np.testing.assert_allclose(alone.log_ratio, found.log_ratio[index])
    assert alone.is_flagged.shape == ()


def test_a_new_user_surprises_nobody(model):
  found = model.surprise(model.adapt())
  assert found.log_ratio == found.largest == 0
  assert not found.is_flagged


def test_what_was_forgotten_surprises_no_longer(model):
  profile = model.adapt(one_sided())
  rest = model.forget(profile, 2)
  same(model.surprise(rest), model.surprise(model.adapt(model.comparisons(rest))))
  assert model.surprise(rest).log_ratio != model.surprise(profile).log_ratio


def test_an_export_and_a_profile_bring_it_back_from_files(tmp_path, small, model):
  exports.write_export(tmp_path / 'export', small)
  again = Personalizer.from_checkpoint(tmp_path / 'export', capacity=CAPACITY)
  profile = model.adapt(one_sided())
  found = again.load(model.save(profile, tmp_path / 'ada.profile'))
  same(again.surprise(found), model.surprise(profile))


def test_a_learner_of_one_kind_of_user_has_no_alarm(model):
  plain = served('cnp')
  with pytest.raises(ValueError, match=r'cnp weighs no members from outside.*train hedge'):
    plain.surprise(plain.adapt())
  with pytest.raises(ValueError, match='adapt anew'):
    model.surprise(plain.adapt())

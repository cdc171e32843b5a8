"""People who say "about the same" are served by a model that was trained on ties, or by halves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import outcomes, population, task
from metapers.core.population import Scaling
from metapers.core.task import Candidates
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving.exports import Export
from metapers.serving.halves import ties_as_halves
from metapers.serving.personalizer import Personalizer, pairs

D, KINDS = 3, ('tie', 'both_bad')
ANSWERS = ['chosen', 'tie', 'both_bad', 'strong', 'tie']
SCALING = population.widened(Scaling(np.full(D, 1.0), np.full(D, 2.0)), len(KINDS))


def export(kinds=KINDS):
  width = D + len(kinds)
  made = learners.make('gaussian_prior', num_features=width)
  params = leaves.named(made.init(jax.random.key(0)))
  scaling = Scaling(*(part[:width] for part in SCALING))
  names = ('x', 'y', 'z', *kinds)
  size = 2 + len(kinds)
  options = {'num_features': width}
  return Export('gaussian_prior', options, params, size, scaling, names, outcomes=kinds)


@functools.cache
def served(kinds=KINDS):
  return Personalizer(export(kinds), capacity=8)


def texts(*size):
  return np.random.default_rng(0).normal(size=(*size, D)).astype(np.float32)


def test_answers_are_read_as_in_training():
  chosen, rejected = texts(2, len(ANSWERS))
  profile = served().adapt(pairs(chosen, rejected, outcome=ANSWERS))
  scaled = (np.stack([chosen, rejected], 1) - 1) / 2
  shown = Candidates(outcomes.widened(jnp.asarray(scaled), KINDS), jnp.ones(scaled.shape[:2], bool))
  given = task.choices(outcomes.expand(shown, KINDS), jnp.array([0, 2, 3, 0, 2]))
  learner = learners.make('gaussian_prior', num_features=D + 2)
  expected = learner.adapt(
    learner.init(jax.random.key(0)), given, task.no_context(), jax.random.key(0)
  )
  np.testing.assert_allclose(profile.user_state.mean, expected.mean, atol=2e-3)  # of float16
  again = served().adapt(served().comparisons(profile))
  np.testing.assert_allclose(again.user_state.mean, profile.user_state.mean, atol=2e-3)


def test_texts_are_predicted_without_flags():
  model = served()
  profile = model.adapt(pairs(*texts(2, 5), outcome=ANSWERS))
  assert model.num_features == D
  scores = model.score(profile, texts(4))
  assert scores.shape == (4,)
  assert model.adapt().history.ids.shape == (8,)
  chance = model.probability(profile, *texts(2, 4))
  np.testing.assert_allclose(chance + model.probability(profile, *texts(2, 4)[::-1]), 1, rtol=1e-5)


def test_many_users_answer_at_once():
  chosen, rejected = texts(2, 6, 5)
  answers = np.broadcast_to(ANSWERS, (6, 5))
  profiles = served().adapt(pairs(chosen, rejected, outcome=answers))
  one = served().adapt(pairs(chosen[2], rejected[2], outcome=ANSWERS))
  np.testing.assert_allclose(profiles.user_state.mean[2], one.user_state.mean, atol=1e-4)


def test_an_export_keeps_its_outcomes(tmp_path):
  assert exports.read_export(exports.write_export(tmp_path / 'with', export())).outcomes == KINDS
  folder = exports.write_export(tmp_path / 'without', export(()))
  assert exports.read_export(folder).outcomes == ()
  assert 'outcomes' not in (folder / 'learner.json').read_text()


def test_a_model_without_ties_says_what_to_do():
  with pytest.raises(ValueError, match=r'without the answers both_bad, tie: .*ties_as_halves'):
    served(()).adapt(pairs(*texts(2, 5), outcome=ANSWERS))
  with pytest.raises(ValueError, match=r"outcome must be one of chosen, .*'same'"):
    pairs(*texts(2, 5), outcome=['same'] * 5)


def test_halves_choose_either_text_by_half():
  chosen, rejected = texts(2, 5)
  given = pairs(chosen, rejected, outcome=ANSWERS)
  profile = served(()).adapt(ties_as_halves(given))
  rows, sides = [0, 1, 1, 3, 4, 4], [0, 0, 1, 0, 0, 1]
  both = np.stack([chosen, rejected])
  first = both[sides, rows]
  second = both[1 - np.array(sides), rows]
  expected = served(()).adapt(pairs(first, second, weight=np.array([1, 0.5, 0.5, 1, 0.5, 0.5])))
  np.testing.assert_allclose(profile.user_state.mean, expected.user_state.mean, atol=1e-4)
  with pytest.raises(ValueError, match='numbered anew: give pairs without ids'):
    ties_as_halves(given._replace(ids=np.arange(5)))


def test_the_halves_of_an_old_tie_go_before_what_came_later():
  chosen, rejected = texts(2, 9)  # of which a profile keeps 8
  profile = served(()).adapt(
    ties_as_halves(pairs(chosen, rejected, outcome=['tie'] + ['chosen'] * 8))
  )
  kept = served(()).adapt(pairs(chosen[1:], rejected[1:]))
  np.testing.assert_array_equal(profile.history.features, kept.history.features)
  np.testing.assert_array_equal(profile.history.weight, kept.history.weight)


def test_answers_move_to_a_model_with_another_scaling():
  other = export()._replace(
    scaling=population.widened(Scaling(np.full(D, 3.0), np.full(D, 1.5)), len(KINDS))
  )
  given = pairs(*texts(2, 5), outcome=ANSWERS)
  moved, afresh = Personalizer(other, capacity=8), served().adapt(given)
  found = moved.adapt(served().comparisons(afresh)).history
  expected = moved.adapt(given).history
  np.testing.assert_array_equal(found.choice, expected.choice)
  np.testing.assert_allclose(found.features, expected.features, atol=5e-3)  # of float16

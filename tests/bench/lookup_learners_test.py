"""Learners of the bench on the lookup task, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.analysis import slates, user_lookup
from metapers.analysis.study_frame import Whose, value_of
from metapers.analysis.user_lookup import Choice, Drawn, Grid, Known
from metapers.bench.studies import lookup, lookup_learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.data import synthetic
from metapers.training import meta_training
from metapers.training.meta_training import Training

WIDTH, COUNTS = 3, (1, 4)


def people(rng, num_users, num_history):
  weights = rng.dirichlet(np.full(WIDTH, 0.5), num_users)
  pairs = rng.normal(size=(num_users, num_history, 2, WIDTH)) * [1.0, 3.0, 0.5]
  best = np.einsum('unkd,ud->unk', pairs, weights).argmax(-1)[..., None, None]
  won, lost = (np.take_along_axis(pairs, each, 2)[:, :, 0] for each in (best, 1 - best))
  return Known(weights, won.astype(np.float32), lost.astype(np.float32))


@pytest.fixture(scope='module')
def drawn():
  rng = np.random.default_rng(0)
  known, new = people(rng, 60, 8), people(rng, 23, 4)
  features = rng.normal(size=(7, 5, WIDTH)).astype(np.float32) + 2
  mask = np.ones((7, 5), bool)
  mask[2, 3:] = False
  rewards = np.einsum('prd,td->tpr', features, new.weights)
  return Drawn(new, known, Choice(features, mask, rewards))


def test_episodes_hold_every_comparison_and_every_slate(drawn):
  scaling = lookup_learners.population(drawn.known, 0).scaling
  episode, truth = lookup_learners.episodes(drawn, np.array([4, 7]), scaling)
  shown, choice = episode.support.candidates.features, episode.support.choice
  for place, user in enumerate((4, 7)):
    for number in range(4):
      won, lost = (shown[place, number, abs(int(choice[place, number]) - k)] for k in (0, 1))
      for own, raw in ((won, drawn.new.winning), (lost, drawn.new.losing)):
        np.testing.assert_allclose(own * scaling.scale + scaling.mean, raw[user, number], atol=1e-5)
  assert set(np.unique(choice)) == {0, 1}
  np.testing.assert_array_equal(truth.slate.mask[1], drawn.choice.mask)
  raw = np.asarray(truth.slate.features[1]) * scaling.scale + scaling.mean
  np.testing.assert_allclose(raw, drawn.choice.features, atol=1e-5)


def test_known_users_are_people_who_chose_what_won(drawn):
  made = lookup_learners.population(drawn.known, 0)
  histories = made.items.choices(made.arrays, 'train')
  features = np.asarray(made.arrays.features) * made.scaling.scale + made.scaling.mean
  user = int(made.arrays.rows['train'][5])
  np.testing.assert_allclose(features[histories.chosen[5]], drawn.known.winning[user], atol=1e-5)
  np.testing.assert_allclose(features[histories.rejected[5]], drawn.known.losing[user], atol=1e-5)


def test_picks_are_the_largest_expected_utility_after_n_comparisons(drawn):
  found = lookup_learners.picks('gaussian_prior', drawn, COUNTS)
  known = lookup_learners.population(drawn.known, 0)
  learner = learners.make('gaussian_prior', num_features=WIDTH)
  params = meta_training.meta_train(learner, known, Training(0), progress=False).best_params
  mean, scale = known.scaling

  def scaled(features):
    return jnp.asarray((features - mean) / scale, jnp.float32)

  offered = Candidates(scaled(drawn.choice.features), jnp.asarray(drawn.choice.mask))
  for user in (0, 20, 22):
    for count in COUNTS:
      both = [scaled(each[user, :count]) for each in (drawn.new.winning, drawn.new.losing)]
      shown = Candidates(jnp.stack(both, 1), jnp.ones((count, 2), bool))
      support = task.choices(shown, jnp.zeros(count, jnp.int32))
      state = learner.adapt(params, support, jnp.zeros(0), jax.random.key(1))
      scores = np.where(offered.mask, learner.score(params, state, offered), -np.inf)
      np.testing.assert_array_equal(found[count][user], scores.argmax(-1))


def test_more_features_than_can_be_trained_on_are_refused(drawn):
  wide = Known(drawn.known.weights, *(np.zeros((60, 8, 129), np.float32) for _ in range(2)))
  with pytest.raises(ValueError, match='129 features are more than'):
    lookup_learners.picks('low_rank', drawn._replace(known=wide), COUNTS)


def test_learners_stand_in_the_study_by_the_same_measure(monkeypatch):
  table = synthetic.synthetic_store(num_prompts=300)
  train, test = (slates.slates_of(table, split=split) for split in ('train', 'test'))
  grid = Grid((1, 3), (1, 4), num_known=20, num_history=4, num_new=6, num_prompts=15)
  drawn = user_lookup.draw(train, test, 0.1, grid=grid)
  best = {n: np.where(drawn.choice.mask, drawn.choice.rewards, -np.inf).argmax(-1) for n in (1, 3)}

  def picks(name, given, counts, *, seed):
    if name == 'gone':
      raise ValueError('no such learner')
    return best

  monkeypatch.setattr(lookup_learners, 'picks', picks)
  made = lookup.part_of(train, test, [0.1], grid=grid, learners=('oracle', 'gone'))
  name = 'learner oracle, n = 3'
  assert value_of(made.frame, group=name, statistic='gain') == pytest.approx(1)
  own = value_of(made.frame, group='own history, n = 3', statistic='gain')
  over = value_of(made.frame, group=name, statistic='gain over own history')
  assert over == pytest.approx(1 - own)
  assert 'gone: left out, no such learner.' in made.text
  assert lookup.learners_of(made.frame) == ['oracle'] and 'oracle 100.0' in made.findings[1]
  for shown in made.figures.values():
    shown.draw(is_narrow=True)
  assert Whose('lookup').study in set(made.frame['study'])

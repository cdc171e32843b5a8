"""The models that come with the package are small, say what they are, and are worth loading."""

import numpy as np
import pytest

from metapers.data import personal_llm_constants, synthetic
from metapers.serving import pretrained
from metapers.serving.personalizer import Personalizer, pairs

NAMES = sorted(path.name for path in pretrained.FOLDER.iterdir())


@pytest.mark.parametrize('name', NAMES)
def test_it_is_small(name):
  assert sum(path.stat().st_size for path in (pretrained.FOLDER / name).iterdir()) <= 2**20


@pytest.mark.parametrize('name', NAMES)
def test_it_says_what_it_was_trained_on(name):
  export = Personalizer.load_pretrained(name).export
  assert 'trained on synthetic users' in export.about
  assert str(export.trained_on['source']).startswith('synthetic')
  assert 'synthetic users' in Personalizer.load_pretrained.__doc__


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match='known: personal_llm_scores'):
    Personalizer.load_pretrained('gpt')


def told(model, a, b, times):
  """P(a over b) of each of U users who preferred a so often."""
  users = (np.repeat(x[:, None], times, 1) for x in (a, b))
  return model.probability(model.adapt(pairs(*users)), a[:, None], b[:, None])[:, 0]


def test_saying_it_again_is_never_held_against_it():
  """100 pairs of test prompts, each said 1, 8 or 64 times."""
  model, store = Personalizer.load_pretrained(), synthetic.synthetic_store()
  rng = np.random.default_rng(0)
  prompts = rng.choice(np.flatnonzero(store.prompt_split == 2), 100, replace=False)
  shown = np.array([rng.permutation(8)[:2] for _ in prompts])
  a, b = (store.rewards[prompts, shown[:, side]] for side in (0, 1))
  nobody = model.adapt(pairs(a[:, None][:, :0], b[:, None][:, :0]))
  before = model.probability(nobody, a[:, None], b[:, None])[:, 0]
  for times in (1, 8, 64):
    now = told(model, a, b, times)
    assert np.mean(now < before - 1e-4) <= 0.01
    before = now
  assert np.mean(before < 0.5) <= 0.01


@pytest.mark.parametrize('num_models', [2, 5, 16])
def test_it_serves_other_reward_models(num_models):
  """Users who care for the last of them alone are known after 12 comparisons."""
  rng = np.random.default_rng(1)
  scores = rng.normal(3, 7, size=(500, num_models))
  model = Personalizer.load_pretrained(scores=scores)
  pool = rng.normal(3, 7, size=(2, 112, num_models))
  first = (pool[0, :, -1] > pool[1, :, -1])[:, None]
  chosen, rejected = np.where(first, *pool), np.where(first, *pool[::-1])
  ada = model.adapt(pairs(chosen[:12], rejected[:12]))
  assert np.mean(model.probability(ada, chosen[12:], rejected[12:]) > 0.5) > 0.85


def test_scores_that_cannot_scale_are_refused():
  for scores, message in [
    (np.zeros((3, 1)), '2 or more reward models'),
    (np.full((3, 2), np.nan), 'with NaN'),
    (np.ones((3, 2)), 'constant'),
    (np.stack([np.full(9, 0.1), np.arange(9.0)], 1), r'columns \[0\] of scores are constant'),
    (np.random.default_rng(0).normal(size=(9, 17)), 'does not serve 17 reward models'),
  ]:
    with pytest.raises(ValueError, match=message):
      Personalizer.load_pretrained(scores=scores)


def test_it_is_surprised_by_who_dislikes_what_all_others_like():
  model, store = Personalizer.load_pretrained(), synthetic.synthetic_store()
  replies = store.rewards[store.prompt_split == 2][:64, :2]
  utility = ((replies - store.mean) / store.std).sum(-1)
  order = np.argsort(utility, axis=1)  # the worse one first
  worse, better = (np.take_along_axis(replies, order[:, i, None, None], 1)[:, 0] for i in (0, 1))
  assert not model.surprise(model.adapt(pairs(better, worse))).is_flagged
  assert model.surprise(model.adapt(pairs(worse, better))).is_flagged


def test_it_adapts_to_users_it_has_not_seen():
  model, store = Personalizer.load_pretrained(), synthetic.synthetic_store()
  assert model.export.feature_names == tuple(personal_llm_constants.REWARD_MODELS)
  rng = np.random.default_rng(0)
  replies = store.rewards[store.prompt_split == 2]
  prompts = rng.integers(len(replies), size=(60, 36))
  shown = replies[prompts, :2]  # [60, 36, 2, 10]
  weights = rng.dirichlet(np.full(10, 0.05), size=(60, 1, 1))
  wanted = np.argmax(np.sum(shown / store.std * weights, -1), -1)[..., None, None]
  chosen, rejected = (np.take_along_axis(shown, i, 2)[:, :, 0] for i in (wanted, 1 - wanted))
  new, adapted = (
    model.probability(users, chosen[:, 16:], rejected[:, 16:])
    for users in (
      model.adapt(pairs(chosen[:, :0], rejected[:, :0])),
      model.adapt(pairs(chosen[:, :16], rejected[:, :16])),
    )
  )
  assert np.mean(new > 0.5) > 0.7
  assert np.mean(adapted > 0.5) > np.mean(new > 0.5) + 0.05
  assert np.log(adapted).mean() > np.log(new).mean() + 0.1

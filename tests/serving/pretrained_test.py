"""The models that come with the package are small, say what they are, and are worth loading."""

import numpy as np
import pytest

from metapers.data import personal_llm_constants, synthetic
from metapers.serving.personalizer import PRETRAINED, Personalizer, pairs

NAMES = sorted(path.name for path in PRETRAINED.iterdir())


@pytest.mark.parametrize('name', NAMES)
def test_it_is_small(name):
  assert sum(path.stat().st_size for path in (PRETRAINED / name).iterdir()) <= 2**20


@pytest.mark.parametrize('name', NAMES)
def test_it_says_what_it_was_trained_on(name):
  export = Personalizer.load_pretrained(name).export
  assert 'trained on synthetic users' in export.about
  assert str(export.trained_on['source']).startswith('synthetic')
  assert 'synthetic users' in Personalizer.load_pretrained.__doc__


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match='known: personal_llm_scores'):
    Personalizer.load_pretrained('gpt')


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

# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Adapt to a user
#
# A trained learner at work: comparisons of one person in, what they would like out. NumPy in,
# NumPy out. The model that comes with the package reads a reply as the raw scores of PersonalLLM's
# ten reward models; it was trained on **synthetic users**.

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import pathlib
import tempfile

import numpy as np

from metapers import Personalizer, pairs, synthetic_store
from metapers.io import plots

model = Personalizer.load_pretrained()
print(model.export.about)
print(', '.join(model.export.feature_names))

# %% [markdown]
# ## A new user
#
# Replies to prompts that training never saw, and Ada, who cares for two of the ten reward models
# (and so unlike most people; whoever is like the crowd has less to gain).

# %%
store = synthetic_store()
replies = store.rewards[store.prompt_split == 2]  # [P, 8, 10] raw scores of test prompts
weights = {'beaver_7b': 0.7, 'oasst_pythia_1b': 0.3}
ada_wants = np.array([weights.get(name, 0.0) for name in store.reward_models])


def utility(raw, weights):
  """Returns the utility of raw scores [..., 10] under somebody's weights [..., 10]."""
  return np.sum((raw - store.mean) / store.std * weights, -1)


def answer(question, weights):
  """Puts the preferred one of two [..., 2, 10] first."""
  best = np.argmax(utility(question, weights[..., None, :]), -1)
  order = np.stack([best, 1 - best], -1)[..., None]
  return np.moveaxis(np.take_along_axis(question, order, -2), -2, 0)


# %% [markdown]
# ## Ten lines
#
# `ask` finds the question with the most informative answer; `update` adds a click; `best_of` picks.

# %%
ada = model.adapt()  # a new user: what most people like
for click in range(8):
  pool = replies[100 * click : 100 * (click + 1), :2]  # [100, 2, 10]
  question = pool[model.ask(ada, pool)]
  ada = model.update(ada, pairs(*answer(question, ada_wants), ids=click))

unseen = replies[900:]  # [100, 8, 10]
best = np.argmax(utility(unseen, ada_wants), -1)
for name, profile in (('before', model.adapt()), ('after', ada)):
  print(
    name,
    'eight clicks Ada is shown her favourite of eight:',
    np.mean(model.best_of(profile, unseen) == best),
  )

# %% [markdown]
# The chance that one reply is preferred to another, and how far that chance itself is unknown:

# %%
a, b = unseen[0, 0], unseen[0, 4]
for name, profile in (('before', model.adapt()), ('after', ada)):
  chance, doubt = model.probability(profile, a, b), model.uncertainty(profile, a, b)
  print(f'{name}: {chance:.2f} ± {doubt:.2f}')

# %% [markdown]
# ## Kept, and forgotten
#
# A profile is a small file without pickles. Forgetting a comparison is exact: the profile is bit
# for bit that of somebody who never gave it.

# %%
with tempfile.TemporaryDirectory() as folder:
  path = model.save(ada, pathlib.Path(folder) / 'ada.npz')
  print(path.stat().st_size, 'bytes')
  ada = model.load(path)

without_last = model.forget(ada, 7)
print('kept', without_last.history.ids[:8], 'of', ada.history.ids[:8])
again = model.update(without_last, pairs(*answer(question, ada_wants), ids=7))
assert np.allclose(again.user_state.log_likelihood, ada.user_state.log_likelihood, atol=1e-4)

# %% [markdown]
# ## How much is known after how many comparisons?
#
# Two hundred people at once, each with 32 unseen questions to be predicted: after random
# comparisons, or after those that `ask` chose among 20 random ones (active querying).

# %%
rng = np.random.default_rng(0)
their_weights = rng.dirichlet(np.full(10, 0.05), size=200)


def questions(count):
  """Draws random pairs of replies for everyone: [200, count, 2, 10]."""
  prompts = rng.integers(len(replies), size=(200, count, 1))
  return replies[prompts, rng.permuted(np.tile(np.arange(8), (200, count, 1)), axis=-1)[..., :2]]


liked, other = answer(questions(32), their_weights[:, None])


def accuracy(people):
  """Returns the mean over people, and half of its 95 % interval."""
  each = (model.probability(people, liked, other) > 0.5).mean(-1)
  return each.mean(), 1.96 * each.std() / np.sqrt(len(each))


# %%
chosen_by = {
  'ask': lambda people, pool: model.ask(people, pool),
  'random': lambda people, pool: np.zeros(200, int),
}
shots, curves = np.array([0, 1, 2, 4, 8, 16]), []
for name, choose in chosen_by.items():
  people = model.adapt(pairs(*np.zeros((2, 200, 0, 10))))
  reached = [accuracy(people)]
  for click in range(1, 17):
    pool = questions(20)
    asked = pool[np.arange(200), choose(people, pool)][:, None]  # [200, 1, 2, 10]
    people = model.update(people, pairs(*answer(asked, their_weights[:, None])))
    if click in shots:
      reached.append(accuracy(people))
  mean, half = np.array(reached).T
  none = np.zeros((0, mean.size))
  curves.append(plots.Curve(name, 'learner', shots, mean, mean - half, mean + half, none))
  print(name, (100 * mean).round(1))

# %%
plots.adaptation(curves, title='The pretrained model on 200 unseen synthetic people (α = 0.05)')

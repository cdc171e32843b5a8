# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own people
#
# From a table of who preferred what to a model that knows somebody new after a handful of
# questions. You will learn what the tables must look like, how to see whether personalising is
# worth it for *your* people (a curve with intervals, against a model that treats all alike), and
# how the trained model asks a new person, what it believes of them, and what it recommends.
#
# The people here are made up, so that the truth is known and nothing is downloaded: 300 tea
# drinkers. Everything below works on two csv files of your own; the same by three commands, and
# which learner for how many people: [docs/data.md](../docs/data.md#from-a-csv-to-a-personaliser).

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import pathlib
import tempfile

import numpy as np
import pandas as pd

from metapers import Personalizer, bench, learners, pairs
from metapers.data import comparisons, made_people
from metapers.io import panels, plots
from metapers.populations import people

folder = pathlib.Path(tempfile.mkdtemp(), 'tea')
folder.mkdir()
tastes = ['sweetness', 'bitterness', 'flowers', 'smoke', 'milk', 'fruit']

# %% [markdown]
# ## Two files
#
# `items.csv`: a row for each thing, with numbers that describe it. `comparisons.csv`: a row for
# each choice. (Ratings do, too, as `ratings.csv`; so do items without any numbers.)
#
# These people share a taste and have one of their own besides. The last of them, Ada, is kept out
# of the files.

# %%
made = made_people.made_people('gaussian', num_people=301, num_items=60, num_features=6)
in_files = made._replace(weights=made.weights[:-1])

items = pd.DataFrame(made.features, columns=tastes)
items.insert(0, 'item_id', [f'tea {number}' for number in range(1, 61)])
choices = made_people.compare(in_files, num_comparisons=40)
for column in ('chosen', 'rejected'):
  choices[column] = items['item_id'].to_numpy()[choices[column]]
items.to_csv(folder / 'items.csv', index=False)
choices.to_csv(folder / 'comparisons.csv', index=False)
print(items.head(3).round(2).to_string(index=False))
print(choices.head(3).to_string(index=False))

# %% [markdown]
# ## Is there anything to personalise?
#
# Half of the people train the learners, the other half are unseen: each gives 0 to 20 comparisons,
# and the learner predicts other choices of theirs. `pooled` treats everybody alike: what is above
# it is what personalising gains. `gaussian_prior` is fitted, not trained; `bayes_head` is trained
# for 200 steps, with no hidden layer, as people are few.

# %%
drinkers = people.people(comparisons.load_comparisons(folder), num_support=20, num_folds=2)
drinkers = drinkers._replace(source='made-up tea drinkers')  # else the folder, and real people
linear = {'hidden': ()}
none = bench.Training(num_steps=0)
short = bench.Training(num_steps=200, evaluate_every=100, learning_rate=1e-2)
table = {
  'gaussian_prior': bench.Entry(
    learners.factory('gaussian_prior'), name='gaussian_prior', training=none
  ),
  'bayes_head': bench.Entry(learners.factory('bayes_head'), linear, training=short),
  'pooled': bench.Entry(learners.factory('pooled'), linear, training=short),
}
result = bench.compare(
  table,
  drinkers,
  shots=(0, 1, 2, 5, 10, 20),
  evaluation=bench.Evaluation(num_users=150, num_resamples=300),
  workdir=folder / 'table',
  log=lambda text: None,
)
result.plot()

# %%
print(*result.verdict(), sep='\n')
result.table('accuracy_minus_pooled')

# %% [markdown]
# Bands, and ± in the table, are 95 % intervals for new people who compare these teas. In the table
# the difference is paired (the same people and choices), which tells more than two bands that
# overlap. Where that interval holds 0 after all comparisons, do not personalise.
#
# ## A new person
#
# Each run of a table that was kept (`workdir=`) holds a model that `Personalizer` loads.

# %%
(run,) = (folder / 'table' / 'runs').glob('gaussian_prior-*')
model = Personalizer.from_checkpoint(run)
print(model)

# %% [markdown]
# Ada answers ten questions, each the most informative one of 200 random pairs. Teas come and go as
# rows of a data frame, by the names of their columns.

# %%
teas = items.set_index('item_id')
ada_likes = made.weights[-1] @ made.features.T  # [60] utilities, which the model never sees
rng = np.random.default_rng(0)
shown = np.array([rng.choice(60, 2, replace=False) for _ in range(200)])

ada = model.adapt()
beliefs = {0: ada}
for click in range(1, 11):
  one, other = shown[model.ask(ada, made.features[shown])]
  is_first = rng.random() < 1 / (1 + np.exp(ada_likes[other] - ada_likes[one]))
  chosen, rejected = (one, other) if is_first else (other, one)
  ada = model.update(ada, pairs(teas.iloc[[chosen]], teas.iloc[[rejected]]))
  beliefs[click] = ada
  if click <= 3:
    print(f'{teas.index[one]} or {teas.index[other]}? {teas.index[chosen]}')

# %% [markdown]
# ## What it believes
#
# Of two teas that are alike but for their sweetness (by one standard deviation of these teas), how
# likely is Ada to prefer the sweeter one? Dots are the model's answers, with two standard
# deviations of how far it does not know them. Before any question they are what most people like.

# %%
middle, spread = made.features.mean(0), made.features.std(0)
more = middle + np.diag(spread)  # [6, 6]: one standard deviation more of one taste
less = np.broadcast_to(middle, more.shape)
truth = 1 / (1 + np.exp(-made.weights[-1] * spread))


def draw(axis, is_narrow):
  axis.axvline(50, color=plots.GREY, lw=0.8)
  for place, (asked, color) in enumerate(zip((0, 3, 10), (plots.GREY, *plots.COLORS))):
    chance = 100 * model.probability(beliefs[asked], more, less)
    reach = 200 * model.uncertainty(beliefs[asked], more, less)
    at = np.arange(6) + 0.24 * (place - 1)
    named = f'after {asked} questions' if asked else 'before any question'
    axis.errorbar(chance, at, xerr=reach, fmt='o', ms=4, lw=1.2, color=color, label=named)
  axis.plot(100 * truth, np.arange(6), 'D', ms=6, mfc='none', color=plots.INK, label='the truth')
  axis.set_yticks(range(6), [f'more {taste}' for taste in tastes])
  axis.set(xlim=(0, 100), ylim=(5.6, -0.6))
  axis.set_xlabel('chance that Ada prefers the tea with (%)', loc='left')


panels.figure([panels.Panel(draw, height=3.2)], title='What ten questions tell of one person')

# %% [markdown]
# ## What it recommends

# %%
for asked in (0, 10):
  best = np.argsort(-model.score(beliefs[asked], teas))[:5]
  rank = 1 + np.argsort(np.argsort(-ada_likes))[best]
  print(f'after {asked} questions:', ', '.join(teas.index[best]), '· in her own order:', rank)

# %% [markdown]
# [02](02_adapt_to_a_user.ipynb) shows how profiles are saved and how a comparison is forgotten,
# [06](06_read_results.ipynb) how to read a table of results. Things without numbers but with texts
# become numbers in [05](05_from_text_to_arrays.ipynb).

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
# # Read results
#
# A finished table leaves a folder. You will learn where its files lie, how to read `results.csv`
# with pandas, and how to answer four questions from it: how fast does a learner get to know a new
# user, is one learner better than another, how much is left below the best that can be reached, and
# for whom is personalising worse than not?

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import pathlib
import tempfile

import numpy as np
import pandas as pd

from metapers import bench, learners, reward_ensemble, synthetic_store
from metapers.bench import runner
from metapers.io import panels, plots

# %% [markdown]
# ## A small table
#
# A learner, shortly trained, beside one that treats all users alike: 80 simulated users whom
# neither has seen. `experiments.benchmark` and `experiments.gather` write such a folder, too; to
# read one of yours, begin below.

# %%
workdir = pathlib.Path(tempfile.mkdtemp(), 'table')
users = reward_ensemble(
  synthetic_store(num_prompts=2000), concentration=0.05, num_slates=4, num_held_out=80
)
training = bench.Training(num_steps=200, evaluate_every=200, batch_size=32)
result = bench.compare(
  {
    name: bench.Entry(learners.factory(name), name=name, training=training)
    for name in ('cnp', 'pooled')
  },
  users,
  evaluation=bench.Evaluation(
    num_users=80, num_validation_users=40, num_resamples=300, num_particles=100
  ),
  workdir=workdir,
  log=lambda text: None,
)
_ = runner.write_result(result, workdir)

# %% [markdown]
# ## Where the files lie

# %%
for path in sorted(workdir.iterdir()):
  inside = [inner for inner in path.rglob('*') if inner.is_file()] if path.is_dir() else [path]
  size = sum(inner.stat().st_size for inner in inside) / 1e6
  print(f'{path.name:16} {size:6.2f} MB' + (f' in {len(inside)} files' if path.is_dir() else ''))

# %% [markdown]
# `report.html` is the page to read, `results.csv` its numbers. `runs` holds a folder for each
# trained learner, which `Personalizer.from_checkpoint` loads; `predictions` what everyone predicted
# of every user, by which an interrupted table goes on where it stood.
#
# ## Numbers as pandas
#
# A row is one number with its 95 % interval: of a metric, of a learner, after so many comparisons
# (`shots`). `seed` is that of training (`all`: the mean over several), and empty for references,
# which are not trained: `oracle` knows the user, `bayes` is the exact answer to the comparisons.

# %%
table = pd.read_csv(workdir / 'results.csv', dtype={'seed': str}, keep_default_na=False)
print(f'{len(table)} rows, {table["metric"].nunique()} metrics')


def rows_of(metric, learner):
  """Returns the rows of a metric of a learner, in order of the comparisons."""
  rows = table[(table['metric'] == metric) & (table['learner'] == learner)]
  numbers = rows[['shots', 'value', 'ci_low', 'ci_high']].apply(pd.to_numeric)
  return numbers.sort_values('shots').set_index('shots')


rows_of('accuracy', 'cnp').round(3)

# %% [markdown]
# ## How fast does it get to know a new user?

# %%
roles = {'bayes': 'reference', 'cnp': 'learner', 'pooled': 'baseline'}


def curves(metric, *names):
  """Returns what is drawn: the values of a metric with their intervals."""
  found = []
  for name in names:
    rows = rows_of(metric, name)
    none = np.zeros((0, len(rows)))
    values = (rows[column].to_numpy() for column in ('value', 'ci_low', 'ci_high'))
    found.append(plots.Curve(name, roles[name], rows.index.to_numpy(), *values, none))
  return found


plots.adaptation(curves('accuracy', *roles), title='Choices of new users that are predicted right')

# %% [markdown]
# Bands are 95 % intervals for new users and prompts. Two that overlap do not say that two learners
# are equal: most of what makes a band wide is which users were drawn, and these are the same ones.
#
# ## Is one better than another?
#
# Paired differences leave that out: `accuracy_minus_pooled` is made user by user and choice by
# choice. Where its interval excludes 0, the two are told apart.

# %%
plots.adaptation(
  curves('accuracy_minus_pooled', 'bayes', 'cnp'),
  title='What is gained over treating all users alike',
  value_label='accuracy minus that of pooled',
)

# %% [markdown]
# Of several learners each is compared with the best one, too (`accuracy_minus_NAME`), by intervals
# that hold for all pairs at once. The top of `report.html` says all this in sentences:

# %%
print(*result.verdict(), sep='\n')

# %% [markdown]
# ## How far below the ceiling?
#
# Nobody who sees these comparisons can do better than `bayes`. What a learner is below it a better
# learner could still gain; what `bayes` is below 100 % only more comparisons can. The share is of
# what `bayes` gains over `pooled`, where that is 3 points or more.

# %%
below = rows_of('accuracy_minus_bayes', 'cnp')
share = rows_of('accuracy_share_of_bayes', 'cnp')['value']
(100 * below.add_prefix('minus bayes, points: ').assign(**{'share of its gain, %': share})).round(1)

# %% [markdown]
# ## For whom is it worse?
#
# A mean hides who loses. `users_worse_than_pooled` counts them, with intervals; who they are is in
# the predictions, a file for each row and number of comparisons. These users choose without
# noise, so that `oracle` has their choices.

# %%
for metric in ('users_worse_than_pooled', 'users_better_than_pooled'):
  row = 100 * rows_of(metric, 'cnp').loc[16]
  print(f'{metric}: {row["value"]:.0f} % ({row["ci_low"]:.0f} to {row["ci_high"]:.0f})')

cells = workdir / 'predictions' / 'default'


def choices(name):
  """Returns what is predicted after 16 comparisons: [users, queries]."""
  (kept,) = cells.glob(f'{name}-*/16.npz')
  return np.load(kept)['log_probs'][0].argmax(-1)


truth = choices('oracle')
accuracy = {name: (choices(name) == truth).mean(-1) for name in ('cnp', 'pooled')}
gain = np.sort(100 * (accuracy['cnp'] - accuracy['pooled']))


def draw(axis, is_narrow):
  colors = np.where(gain < 0, plots.COLORS[1], plots.COLORS[0])
  axis.bar(np.arange(gain.size), gain, 0.9, color=colors)
  axis.axhline(0, color=plots.INK, lw=0.8)
  axis.axhline(gain.mean(), color=plots.GREY, lw=0.8, ls='--')
  axis.text(0, gain.mean() + 1, f'the mean, {gain.mean():+.1f}', color=plots.GREY, fontsize=8)
  axis.set_xlabel('80 new users, from who loses most to who gains most', loc='left')
  axis.set_ylabel('points of accuracy')


panels.figure(
  [panels.Panel(draw, height=3)],
  title='What each user gains when cnp adapts to 16 comparisons of theirs (pooled: 0)',
)

# %% [markdown]
# Each user answers few queries, so that some bars are below 0 by chance alone; the groups in
# `report.html` (by distance to the users of training, by how mixed a user's wants are) tell whether
# there is a kind of users who lose.
#
# What each column and metric means: [docs/statistics.md](../docs/statistics.md); what else lies in
# a workdir: [docs/operations.md](../docs/operations.md#workdirs).
# [01](01_new_meta_learner.ipynb) puts a learner of your own into such a table,
# [04](04_your_own_people.ipynb) people of your own.

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
# # Is it like people?
#
# Simulated users stand in for people in most tables here. Three studies of what they are like:
# how much they disagree, how many different preferences there are among them, and whether people
# who answer questions could be such users. `python -m experiments.analyze` makes all studies of a
# store into one page; here each is a function from arrays to a data frame.

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import numpy as np

from metapers import synthetic_store
from metapers.analysis import (
  agreement,
  people_statistics,
  simulated_people,
  slates,
  study_frame,
  vote_table,
  voters,
)
from metapers.bench.studies import agreement as agreement_page
from metapers.bench.studies import diversity as diversity_page

given = slates.slates_of(synthetic_store())
alphas = [0.01, 0.1, 1.0]
print(f'{len(given.mask):,} test prompts, {given.mask.shape[1]} responses each')
print(f'{len(given.reward_models)} reward models')

# %% [markdown]
# ## How much do users disagree?
#
# Each of 500 users votes for the response of largest reward to them. Beside the Dirichlet users
# stand those of whom the answer is known: all want what one reward model wants, all weight the
# models alike, or all choose at random.

# %%
voted = list(voters.voters(given, alphas, num_users=500, num_draws=4))
table = vote_table.study(given, voted)
own = table[table['convention'] != 'raw']
entropy = own[own['statistic'] == vote_table.ENTROPY]
print(entropy[['population', 'concentration', 'value', 'standard_error']].round(3).to_string())
diversity_page.figure(table, 'z')

# %% [markdown]
# Small α makes more different users than large α: near the corners of the simplex each user is one
# reward model; far inside all are nearly their mean.
#
# ## How many preferences are there?
#
# Ten reward models are no ten independent tastes. The effective number counts directions that
# users want, 1 where all want the same.

# %%
frames = [agreement.models_study(given.scores['z'], given.mask, given.reward_models)]
for alpha in alphas:
  weights = slates.draw_users(alpha, num_draws=4, num_users=500, num_models=10)
  for convention in slates.CONVENTIONS:
    whose = study_frame.Whose('agreement', voters.DIRICHLET, alpha, convention)
    frames.append(agreement.users_study(weights, given.scores[convention], given.mask, whose))
found = study_frame.joined(frames)
number = found[found['statistic'] == 'effective number of preferences']
number = number[number['convention'] == 'z']
print(number[['population', 'concentration', 'value', 'standard_error']].round(2).to_string())
agreement_page.users_figure(found)

# %% [markdown]
# ## Could these people be simulated users?
#
# Suppose 200 people who answered 24 questions each about 60 items, scored by the same reward
# models. (Here they are drawn, so that the answer is known: α = 0.1, and noise of temperature 0.5.)
# How a person's answers hang together tells noise and disagreement apart: noise makes people
# contradict themselves, concentration only others.

# %%
rng = np.random.default_rng(0)
num_people, num_items = 200, 60
scores = simulated_people.items_of(given.scores['z'], given.mask, num_items, rng)
person = np.repeat(np.arange(num_people), 24)
pairs = np.sort(np.argsort(rng.random((len(person), num_items)), 1)[:, :2], 1)
asked = people_statistics.Answers(
  person, *pairs.T, np.ones(len(person), int), np.zeros(num_items, int), num_people
)
people = simulated_people.answered(
  asked, scores, simulated_people.draw_weights(rng, num_people, 0.1, 10), 0.5, rng
)
likely = simulated_people.fit(people, scores, num_particles=1024)
print('likeliest (α, temperature):', likely.best)
for alpha, row in zip(likely.concentrations, likely.inside):
  print(f'α = {alpha:<5}', ' '.join('in ' if inside else ' . ' for inside in row))
print('temperature', *likely.temperatures)

# %% [markdown]
# `in` marks the 95 % region. And a check that can say no: replicate the answers by simulated users,
# and see where people lie among the replicates.

# %%
for alpha, temperature in (likely.best, (3.0, 0.5)):
  checks = simulated_people.predictive_checks(people, scores, alpha, temperature, num_replicates=39)
  for check in checks:
    print(f'α = {alpha}: {check.statistic} {check.value:.3f}, p = {check.p:.2f}')

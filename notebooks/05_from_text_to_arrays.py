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
# # From text to arrays
#
# Reward models and encoders read every text once; everything after works on arrays. You will learn
# how texts are given, how models score them into a *store* (a folder that is checked, resumed and
# never half written), what a store's summary says, and how users are simulated on it: which of four
# writers do they like, and how much do they disagree?
#
# No model is downloaded: the reward model and the encoder are made here, tiny and with random
# weights, so that their scores mean nothing. In their place goes the name of any classifier on the
# hub, or a folder of one; PersonalLLM's ten go by name. The other rewards are *constructed*:
# formulas of the text. Only extraction needs torch: the extra `extract`.

# %%
# On Colab: !pip install "metapers[extract] @ git+https://github.com/metapers/metapers"
import pathlib
import tempfile

import numpy as np
import pandas as pd
import tokenizers
import torch
import transformers

from metapers import reward_ensemble
from metapers.analysis import slates, vote_table, voters
from metapers.data import extracted, feature_store, sources, store_summary
from metapers.data.extraction import Extraction
from metapers.data.reward_models import Options, RewardModel
from metapers.io import panels

folder = pathlib.Path(tempfile.mkdtemp())

# %% [markdown]
# ## Texts
#
# A row for each prompt, a column for each response: from a parquet or jsonl file, or as here a data
# frame. Four made-up writers answer 256 questions, each in a manner of their own.

# %%
rng = np.random.default_rng(0)
things = ('a cat', 'a garden', 'a bicycle', 'a diary', 'a stew', 'a choir', 'a fence', 'a boat')
asked = (
  'begin with',
  'care for',
  'repair',
  'choose',
  'give up',
  'show off',
  'pay for',
  'talk about',
)
prompts = [
  f'{how} {what} {thing}?'
  for thing in things
  for what in asked
  for how in ('How do I', 'Should I', 'When do I', 'Why would I')
]
steps = (
  'start small', 'read a book', 'ask a friend', 'make a plan', 'take your time', 'keep it clean',
  'write it down', 'save some money', 'go outside', 'rest on Sunday',
)  # fmt: skip


def answers():
  """Returns a response of every writer."""
  one, two, three = rng.choice(steps, 3, replace=False)
  return {
    'plain': f'First {one}, then {two}.',
    'warm': f'What a lovely idea! I would happily {one} and {two}. You will love it!',
    'list': f'Do this:\n- {one}\n- {two}\n- {three}',
    'careful': f'It may depend. Perhaps you could {one}, and usually it seems wise to {two}.',
  }


rows = []
for prompt in prompts:
  written = rng.permutation(list(answers().items()))  # in any order
  rows.append(
    {'prompt': prompt, 'responses': list(written[:, 1]), 'response_models': list(written[:, 0])}
  )
source = sources.read_texts(pd.DataFrame(rows))._replace(name='made-up writers')
print(source.texts.prompts[0], *source.texts.responses[0], sep='\n\n')

# %% [markdown]
# ## A reward model and an encoder
#
# A folder with weights and a tokenizer, as `save_pretrained` writes it.

# %%
words = sorted({word for text in source.texts.responses.ravel() for word in text.split()})
names = ['<pad>', '<unk>', *words]
core = tokenizers.Tokenizer(
  tokenizers.models.WordLevel({word: number for number, word in enumerate(names)}, '<unk>')
)
core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
tokenizer = transformers.PreTrainedTokenizerFast(
  tokenizer_object=core, pad_token='<pad>', unk_token='<unk>'
)
torch.manual_seed(0)
config = transformers.AutoConfig.for_model(
  'llama',
  vocab_size=len(names),
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_labels=1,
  pad_token_id=0,
  initializer_range=0.5,
)
network = transformers.AutoModelForSequenceClassification.from_config(config)
network.save_pretrained(folder / 'tiny')
tokenizer.save_pretrained(folder / 'tiny')

wanted = Extraction(
  source=source,
  models=[
    RewardModel('tiny', str(folder / 'tiny'), template='plain'),
    RewardModel('encoder', str(folder / 'tiny'), template='plain', pooling='mean'),
  ],
  constructed=['length', 'lists', 'hedging', 'sentiment', 'enthusiasm'],
  options=Options(batch_size=64, max_length=64),
)

# %% [markdown]
# ## The store
#
# Work is kept in parts: a killed extraction resumes, several machines share one
# (`shard='0/4'`), and until all is there nothing looks like a store.
# `python -m experiments.extract` is the same from the command line.

# %%
extracted.extract(wanted, folder / 'store', log=print)
store = feature_store.open_store(folder / 'store')
print()
print(store_summary.contents(store))

# %% [markdown]
# Raw scores [P, R, B], and features [P, R, D] of which ridge regression explains so much of each
# reward (0 is what a constant would; a real encoder would explain less of a real reward model):

# %%
print(store_summary.as_text(store, store_summary.summarize(store)))

# %% [markdown]
# ## Users
#
# A simulated user weights the reward models, by a Dirichlet of concentration α. An episode is one
# user's comparisons to adapt to, and others to predict, in arrays alone; ids of
# the prompts lead back to the texts.

# %%
users = reward_ensemble(store, concentration=0.1, num_support=8, num_query=8, num_slates=4)
task, truth = users.episode_of(users.arrays, 0, 'test')
print('features of the candidates:', task.support.candidates.features.shape)
best = int(np.argmax(truth.weights))
print(f'this user cares most for {store.reward_models[best]} ({np.max(truth.weights):.0%}):')
asked_of = source.texts.prompts[np.asarray(truth.support_prompts)]
scores = np.asarray(truth.support_rewards)[:, :, best]  # [N, K]
for prompt, choice, of_both in zip(asked_of[:4], task.support.choice, scores):
  print(f'  {prompt:28} chose {of_both[choice]:+.2f}, not {of_both[1 - choice]:+.2f}')

# %% [markdown]
# ## Whom do they like, and how much do they disagree?
#
# 500 users vote on the test prompts, each for the response of largest reward to them. (Lines on the
# bars are 95 % intervals for new prompts and a new draw of users.)

# %%
given = slates.slates_of(store)
alphas = [0.01, 0.1, 1.0, 10.0]
voted = list(voters.voters(given, alphas, num_users=500, num_draws=4))
found = vote_table.study(given, voted)
found = found[(found['population'] == voters.DIRICHLET) & (found['convention'] == 'z')]
entropy = found[found['statistic'] == vote_table.ENTROPY].set_index('concentration')['value']
wins = found[found['statistic'] == vote_table.WINS]
table = wins.pivot(index='concentration', columns='group', values='value').round(1)
table.assign(**{'entropy of the vote (nats)': entropy.round(2)})

# %%
by_writer = np.stack(
  [given.scores['z'][given.response_model == number].mean(0) for number in range(4)]
)
votes = {
  f'α = {alpha:g}': vote_table.shares(wins[wins['concentration'] == alpha], vote_table.WINS)
  for alpha in alphas
}
panels.figure(
  [
    panels.Panel(
      panels.matrix(
        by_writer.T, store.reward_models, columns=given.response_models, low=-2, high=2
      ),
      'mean score, in sd of all responses',
    ),
    panels.Panel(panels.bars(votes, 'votes (%)'), 'whose responses 500 users like best'),
  ],
  title='What six rewards think of four writers, and what users do',
)

# %% [markdown]
# The smaller α, the more a user is one reward model, and the more users differ (ln 4 = 1.39 nats
# would be an even vote). The larger, the more all of them want the same mean of rewards.
#
# [03](03_is_it_like_people.ipynb) asks whether such users are like people,
# [01](01_new_meta_learner.ipynb) trains learners on them, and
# [04](04_your_own_people.ipynb) takes real comparisons in their place. All that extraction reads:
# [docs/data.md](../docs/data.md#text-to-arrays).

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
# # A new meta-learner
#
# A meta-learner is a few pure functions for ONE user: `init`, `adapt`, `score`. Everything else
# (training over thousands of users, masks, curves, the exact Bayesian answer) is already there.
#
# Here: an *averaging* learner. A user is the mean, over their comparisons, of what they chose minus
# what they left, seen through a learned map.

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import jax
import jax.numpy as jnp

from metapers import bench, contract, from_adapt_score, make, reward_ensemble, synthetic_store
from metapers.core import task
from metapers.learners import neural_process
from metapers.networks.linear_mlp import linear_mlp


# %%
def averaging(num_features, width=16):
  """u(x) = (v + Σ_n [φ(chosen_n) - φ(other_n)] / (1 + n)) · A φ(x)."""
  network = linear_mlp(num_features, (32,), width)

  def init(key):
    key_network, key_head = jax.random.split(key)
    head = jax.random.normal(key_head, (width,)) / jnp.sqrt(width)
    return {'network': network.init(key_network), 'head': head, 'mix': jnp.eye(width)}

  def adapt(params, support, context, key):
    embedding = network.apply(params['network'], support.candidates.features)
    token = neural_process.tokens(embedding, support)  # [N, H], zeros where masked
    summed = jnp.sum(token * support.weight[:, None], 0)
    return params['head'] + summed / (1 + task.total_weight(support))

  def score(params, user_state, candidates):
    return network.apply(params['network'], candidates.features) @ params['mix'] @ user_state

  return from_adapt_score(init, adapt, score)


# %% [markdown]
# ## Does it keep the contract?
#
# Masks, padding, order, weights, gradients against finite differences, same key same bits, and that
# it learns on a toy population: one call.

# %%
contract.check(averaging(num_features=4))

# %% [markdown]
# ## Beside others, and beside the exact answer
#
# PersonalLLM's users are Dirichlet-weighted ensembles of ten reward models. The store here is
# synthetic, so no download is needed. `bayes` is the exact posterior under the simulator's own
# prior: nobody can do better.

# %%
users = reward_ensemble(synthetic_store(), concentration=0.05, num_held_out=100)
learners = {
  'averaging': averaging(users.spec.num_features),
  'cnp': make('cnp', num_features=users.spec.num_features),
  'pooled': make('pooled', num_features=users.spec.num_features),
}
result = bench.compare(
  learners,
  users,
  training=bench.Training(num_steps=200, evaluate_every=200, batch_size=32),
  evaluation=bench.Evaluation(num_users=100, num_resamples=300, num_particles=200),
  log=lambda text: None,
)
result.table()

# %%
result.plot()

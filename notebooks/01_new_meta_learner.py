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
# # A new meta-learner
#
# A meta-learner is a few pure functions for ONE user: `init`, `adapt`, `score`. Everything else
# (training over thousands of users, masks, curves, the Bayes ceiling) is already there.
#
# Here: an *averaging* learner. A user is the mean, over their comparisons, of what they chose minus
# what they left, seen through a learned map.

# %%
# On Colab: !pip install "metapers @ git+https://github.com/metapers/metapers"
import jax
import jax.numpy as jnp
import optax

from metapers.bench import results, tables
from metapers.core import meta_learner
from metapers.data import synthetic
from metapers.evaluation import adaptation, estimates
from metapers.evaluation.bayes import ceiling
from metapers.evaluation.bayes.posterior import Condition
from metapers.io import plots
from metapers.learners import make, neural_process
from metapers.networks.linear_mlp import linear_mlp
from metapers.populations.reward_ensemble import reward_ensemble
from metapers.testing import contract
from metapers.training import loop, meta_training


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
    return params['head'] + jnp.sum(token, 0) / (1 + jnp.sum(support.mask))

  def score(params, user_state, candidates):
    return network.apply(params['network'], candidates.features) @ params['mix'] @ user_state

  return meta_learner.from_adapt_score(init, adapt, score)


# %% [markdown]
# ## Does it keep the contract?
#
# Masks, padding, order, gradients against finite differences, same key same bits, and that it
# learns on a toy population: one call.

# %%
contract.check(averaging(num_features=4))

# %% [markdown]
# ## Train it on simulated users
#
# PersonalLLM's users are Dirichlet-weighted ensembles of ten reward models. The store here is
# synthetic, so no download is needed.

# %%
users = reward_ensemble(synthetic.synthetic_store(), concentration=0.05, num_held_out=100)
learners = {
  'averaging': averaging(users.spec.num_features),
  'pooled': make('pooled', num_features=10),
}
trained = {
  name: meta_training.meta_train(
    learner, users, optax.adam(3e-3), plan=loop.Plan(num_steps=300), name=name, progress=False
  )
  for name, learner in learners.items()
}

# %% [markdown]
# ## Beside the ceiling
#
# `bayes` is the exact posterior under the simulator's own prior: nobody can do better.

# %%
shots = (0, 1, 2, 4, 8, 16)
tasks, truth = adaptation.episodes(users, split='test', num_users=100)
exact, _ = ceiling.bayes(
  tasks, truth, [Condition(0.05, 0.0, 0.0)], pair_rule='random', shots=shots, num_particles=200
)
predictions = {'bayes': exact} | {
  name: adaptation.evaluate(
    learners[name], trained[name].params, tasks, truth, shots=shots, key=jax.random.key(0)
  )
  for name in learners
}

# %%
judge = estimates.evaluation_set(tasks, truth, num_resamples=300)
rows = [
  row
  for name, made in predictions.items()
  for row in results.rows(
    estimates.estimate(evaluated, made), shots, {'learner': name}, num_users=evaluated.num_users
  )
]
print(tables.as_text(tables.table(rows)))

# %%
plots.adaptation(tables.curves(rows), title='A new learner on 100 unseen users, synthetic scores')

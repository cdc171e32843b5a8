"""The exact posterior of users who are of a few equally likely types, in closed form."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import masked, task
from metapers.core.task import Candidates, Task
from metapers.core.types import Array, Callable, Float
from metapers.evaluation.bayes.ceiling import LEAST_PROBABILITY


def predict(
  tasks: Task,
  shots: Sequence[int],
  choice_probabilities: Callable[[Candidates], Float[Array, 'T N K Z']],
) -> Float[Array, 'L T N K']:
  """Returns the posterior predictive over Z types after k comparisons, from a uniform prior.

      P(choice | D_k) = Σ_z P(z | D_k) P(choice | z),   P(z | D_k) ∝ Π_{i ≤ k} P(choice_i | z)^{w_i}

  No learner can do better. A comparison that no type would make says nothing.

  Args:
    tasks: T users, [T, ...].
    shots: L numbers of comparisons; the first k real ones count.
    choice_probabilities: of each type, see `population.Simulation`.

  Returns:
    Log-probabilities [L, T, N, K] in nats; masked candidates get the dtype's minimum.
  """
  support, query = task.drop_masked(tasks.support), tasks.query.candidates
  chosen = task.chosen_mask(support)[..., None]
  probabilities = choice_probabilities(support.candidates)
  likelihood = jnp.sum(jnp.where(chosen, probabilities, 0.0), -2)  # [T, N, Z]
  evidence = support.weight[..., None] * jnp.log(jnp.maximum(likelihood, LEAST_PROBABILITY))
  given = jnp.stack([task.with_shots(support, k).mask for k in shots])  # [L, T, N]
  total = jnp.sum(jnp.where(given[..., None], evidence[None], 0.0), -2)
  posterior = jax.nn.softmax(total, -1)
  probability = jnp.einsum('ltz,tnkz->ltnk', posterior, choice_probabilities(query))
  log_p = jnp.log(jnp.maximum(probability, LEAST_PROBABILITY))
  mask = jnp.broadcast_to(query.mask, log_p.shape)
  return masked.fill(log_p, mask, float(jnp.finfo(log_p.dtype).min))

"""Trains a small language model on a stream of texts that never repeats, through `fit`."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Callable, Int, Params, PRNGKey
from metapers.io.checkpoints import Checkpoints
from metapers.llm import p_dpo, styles
from metapers.llm.decoder import Decoder
from metapers.llm.user_model import UserState
from metapers.training import loop, optimizers
from metapers.training.step import Sampler

STATEMENT_RATE = 0.25  # of texts in which somebody says first what they like; it changes nothing


def pretrain(
  model: Decoder,
  *,
  num_steps: int,
  batch_size: int = 128,
  learning_rate: int | float = 3e-3,
  seed: int = 0,
  prompts: Int[Array, 'P'] | Int[np.ndarray, 'P'],
  texts: Sampler | None = None,
  checkpoints: Checkpoints | None = None,
  writer: Callable | None = None,
  progress: bool = True,
) -> Params:
  """Returns parameters that minimise the NLL of a response's tokens, in every style alike.

  Args:
    model: decoder.
    num_steps: updates.
    batch_size: texts in each, drawn anew.
    learning_rate: of AdamW.
    seed: of the parameters and the texts.
    prompts: [P] numbers of those that are asked.
    texts: draws batches of them; `stream` by default.
    checkpoints: where to save and to resume from.
    writer: of metrics, see `loop.fit`.
    progress: show a bar.
  """
  key_init, key_steps = jax.random.split(jax.random.key(seed))

  def batch_loss(params, objective_state, batch, arrays):
    del arrays
    features, state = batch
    log_p = jax.vmap(p_dpo.log_probs, (None, None, 0, 0))(model, params, features, state)
    loss = -log_p.sum() / features['response_mask'].sum()
    return loss, (objective_state, {'nats_per_token': loss})

  return loop.fit(
    model.init(key_init),
    batch_loss,
    texts or stream(model.config.width, batch_size),
    jnp.asarray(prompts),
    optimizers.adamw(learning_rate, num_steps),
    schedule=loop.Schedule(num_steps),
    key=key_steps,
    name='language model',
    checkpoints=checkpoints,
    writer=writer,
    progress=progress,
  ).params


def stream(width: int, batch_size: int) -> Sampler:
  """Returns a sampler of texts in styles drawn uniformly, as features and states of nobody's."""

  def one(prompts, key: PRNGKey):
    keys = jax.random.split(key, 5)
    number = prompts[jax.random.randint(keys[0], (), 0, prompts.shape[0], jnp.int32)]
    poles = jax.random.bernoulli(keys[1], 0.5, (len(styles.AXES),)).astype(jnp.int32)
    text = styles.text_of(keys[2], number, poles)
    axis, pole = (
      jax.random.randint(k, (), 0, most, jnp.int32)
      for k, most in zip(keys[3:], (len(styles.AXES), 2))
    )
    said = styles.statement_of(axis, pole)
    is_said = jax.random.bernoulli(jax.random.fold_in(key, 5), STATEMENT_RATE, said.shape[:0])
    state = UserState(
      jnp.zeros((0, width), jnp.float32), said, jnp.broadcast_to(is_said, said.shape)
    )
    is_prompt, is_response = (tokens != styles.PAD for tokens in text)
    return p_dpo.sequences(text.prompt, is_prompt, text.response, is_response), state

  def sample(arrays, key):
    return jax.vmap(one, (None, 0))(arrays, jax.random.split(key, batch_size))

  return sample

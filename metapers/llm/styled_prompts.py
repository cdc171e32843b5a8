"""Preference prompts of the small grammar, and texts to pre-train a model on that heeds them.

A prompt is 'BOS i like POLE answers . why does ...'. In its place stand answers that somebody liked,
for a model that learns from examples.
"""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Int, PRNGKey
from metapers.llm import p_dpo, styles
from metapers.llm.steer import Forms
from metapers.llm.user_model import UserState
from metapers.training.step import Sampler

NUM_AXES = len(styles.AXES)
NUM_PROMPTS = 2 * NUM_AXES  # one for each pole
NUM_EXAMPLES = 1  # answers that a text may show before the question
TEXT_LENGTH = NUM_EXAMPLES * styles.RESPONSE_LENGTH
# How often a text begins with a statement, and with examples; else with the question.
STATEMENT_RATE, EXAMPLE_RATE = 0.5, 0.3


def stream(
  width: int, batch_size: int, *, num_heeded: int = NUM_AXES, heed_rate: float = 0.85
) -> Sampler:
  """Returns a sampler of texts by authors with tastes, for `pretraining.pretrain`.

  An author has each pole of an axis with a chance of their own, uniform in [0, 1], in all answers.
  What is stated of one of the first `num_heeded` axes is heeded in a share `heed_rate` of texts; of
  the others it changes nothing. Examples are answers of the same author to other questions.

  Args:
    width: of the model.
    batch_size: texts in each batch.
    num_heeded: axes whose statements change answers.
    heed_rate: how often they do.
  """

  def one(prompts, key: PRNGKey):
    keys = jax.random.split(key, 6)
    numbers = prompts[jax.random.randint(keys[0], (NUM_EXAMPLES + 1,), 0, len(prompts), jnp.int32)]
    chance = jax.random.uniform(keys[1], (NUM_AXES,), jnp.float32)
    poles = jax.random.bernoulli(
      keys[2], jnp.broadcast_to(chance[None], (NUM_EXAMPLES + 1, NUM_AXES))
    ).astype(jnp.int32)
    drawn, said = jax.random.uniform(keys[3], (2,), jnp.float32)
    is_stated = drawn < STATEMENT_RATE
    asked = jax.random.randint(keys[4], (), 0, NUM_PROMPTS, jnp.int32)
    is_heeded = is_stated & (asked // 2 < num_heeded)
    wanted = jnp.where(said < heed_rate, asked % 2, 1 - asked % 2)
    poles = poles.at[0, asked // 2].set(jnp.where(is_heeded, wanted, poles[0, asked // 2]))
    texts = jax.vmap(styles.text_of)(jax.random.split(keys[5], NUM_EXAMPLES + 1), numbers, poles)
    state = UserState(
      jnp.zeros((0, width), jnp.float32),
      jnp.where(is_stated, statement(asked), texts.response[1:].reshape(-1)),
      jnp.where(
        is_stated,
        statement(asked) != styles.PAD,
        (texts.response[1:] != styles.PAD).reshape(-1) & (drawn < STATEMENT_RATE + EXAMPLE_RATE),
      ),
    )
    is_prompt, is_response = (tokens[0] != styles.PAD for tokens in texts)
    return p_dpo.sequences(texts.prompt[0], is_prompt, texts.response[0], is_response), state

  def sample(arrays, key):
    return jax.vmap(one, (None, 0))(arrays, jax.random.split(key, batch_size))

  return sample


def statement(number: Int[Array, '']) -> Int[Array, 'L']:
  """Returns what prompt 2 axis + pole says, padded on the right to TEXT_LENGTH."""
  said = styles.statement_of(number // 2, number % 2)
  return jnp.pad(said, (0, TEXT_LENGTH - len(said)))


def forms(prompts: Int[Array, '*batch L'], kept: Int[Array, 'B']) -> Forms:
  """Returns questions as they are, and after each of the kept preference prompts.

  Args:
    prompts: tokens of questions, see `styles.prompt_of`.
    kept: numbers of preference prompts, 2 axis + pole.
  """
  said = jax.vmap(styles.statement_of)(kept // 2, kept % 2)  # [B, S]
  said = jnp.concatenate([jnp.zeros_like(said[:1]), said])
  return _after(prompts, said)


def shown(prompts: Int[Array, '*batch L'], answers: Int[Array, '*batch E R']) -> Forms:
  """Returns questions as they are, and after the last NUM_EXAMPLES answers that somebody liked."""
  examples = answers[..., -NUM_EXAMPLES:, :].reshape(*answers.shape[:-2], 1, -1)
  return _after(prompts, jnp.concatenate([jnp.zeros_like(examples), examples], -2))


def _after(prompts: Array, said: Array) -> Forms:
  """Returns questions [*batch, L] behind texts [*batch, M, S], both behind the BOS."""
  lead = (*prompts.shape[:-1], said.shape[-2])
  said = jnp.broadcast_to(said.reshape((1,) * (len(lead) - said.ndim + 1) + said.shape),
                          (*lead, said.shape[-1]))  # fmt: skip
  asked = jnp.broadcast_to(prompts[..., None, :], (*lead, prompts.shape[-1]))
  tokens = jnp.concatenate([asked[..., :1], said, asked[..., 1:]], -1)
  return Forms(tokens, tokens != styles.PAD)

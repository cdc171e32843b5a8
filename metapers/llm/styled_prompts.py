"""Preference prompts of the small grammar, and texts to pre-train a model on that heeds them.

A prompt is 'BOS i like POLE answers . why does ...'. In the place of the statement stand answers
that somebody liked, for a model that learns from examples.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Bool, Float, Int, PRNGKey
from metapers.llm import p_dpo, styles
from metapers.llm.steer import Forms
from metapers.llm.user_model import UserState
from metapers.training.step import Sampler

NUM_AXES = len(styles.AXES)
NUM_PROMPTS = 2 * NUM_AXES  # one for each pole
NUM_EXAMPLES = 1  # answers that a text may show before the question
TEXT_LENGTH = NUM_EXAMPLES * styles.RESPONSE_LENGTH
MOST_STATED = 3  # statements before a question
# How often a text begins with statements, and with examples; else with the question.
STATEMENT_RATE, EXAMPLE_RATE = 0.7, 0.2


def stream(
  width: int, batch_size: int, *, num_heeded: int = NUM_AXES, heed_rate: float = 0.95
) -> Sampler:
  """Returns a sampler of texts by authors with tastes, for `pretraining.pretrain`.

  An author has each pole of an axis with a chance of their own, uniform in [0, 1], in all answers.
  A text begins with one to MOST_STATED statements of different axes, or with answers of the same
  author to other questions, or with the question.

  Args:
    width: of the model.
    batch_size: texts in each batch.
    num_heeded: axes whose statements change answers; those of the others change nothing.
    heed_rate: how often they do.
  """

  def one(prompts, key: PRNGKey):
    keys = jax.random.split(key, 7)
    count = NUM_EXAMPLES + 1
    numbers = prompts[jax.random.randint(keys[0], (count,), 0, len(prompts), jnp.int32)]
    chance = jax.random.uniform(keys[1], (1, NUM_AXES), jnp.float32)
    drawn = jax.random.uniform(keys[2], (count, NUM_AXES), jnp.float32)
    poles = (drawn < chance).astype(jnp.int32)
    kind, share = jax.random.uniform(keys[3], (2,), jnp.float32)
    said, is_said, asked = stated(keys[4], share, num_heeded, heed_rate)
    is_stated = kind < STATEMENT_RATE
    poles = poles.at[0].set(jnp.where(is_stated & (asked >= 0), asked, poles[0]))
    texts = jax.vmap(styles.text_of)(jax.random.split(keys[5], count), numbers, poles)
    examples = texts.response[1:].reshape(-1)
    is_shown = (examples != styles.PAD) & (kind < STATEMENT_RATE + EXAMPLE_RATE)
    state = UserState(
      jnp.zeros((0, width), jnp.float32),
      jnp.where(is_stated, said, examples),
      jnp.where(is_stated, is_said, is_shown),
    )
    is_prompt, is_response = (tokens[0] != styles.PAD for tokens in texts)
    return p_dpo.sequences(texts.prompt[0], is_prompt, texts.response[0], is_response), state

  def sample(arrays, key):
    return jax.vmap(one, (None, 0))(arrays, jax.random.split(key, batch_size))

  return sample


def stated(
  key: PRNGKey, share: Float[Array, ''], num_heeded: int, heed_rate: float
) -> tuple[Int[Array, 'S'], Bool[Array, 'S'], Int[Array, '5']]:
  """Returns the tokens of some statements, which of them are real, and the pole asked of each axis.

  The pole is -1 of an axis that is not stated or not heeded.
  """
  key_axes, key_poles, key_heed = jax.random.split(key, 3)
  axes = jax.random.permutation(key_axes, NUM_AXES)[:MOST_STATED]
  poles = jax.random.bernoulli(key_poles, 0.5, (MOST_STATED,)).astype(jnp.int32)
  is_said = jnp.arange(MOST_STATED) <= jnp.floor(share * MOST_STATED)
  heeds = jax.random.bernoulli(key_heed, heed_rate, (MOST_STATED,))
  followed = jnp.where(heeds, poles, 1 - poles)
  is_asked = is_said & (axes < num_heeded)
  asked = jnp.full(NUM_AXES, -1).at[axes].set(jnp.where(is_asked, followed, -1))
  tokens = jax.vmap(styles.statement_of)(axes, poles).reshape(-1)
  rest = (0, TEXT_LENGTH - len(tokens))
  is_real = jnp.pad(jnp.repeat(is_said, styles.STATEMENT_LENGTH), rest)
  return jnp.pad(tokens, rest), is_real, asked


@functools.cache
def questions() -> Int[np.ndarray, 'P L']:
  """Returns the tokens of all questions, by number."""
  every = jnp.arange(styles.NUM_PROMPTS, dtype=jnp.int32)
  return np.asarray(jax.jit(jax.vmap(styles.prompt_of))(every))


def forms(numbers: Int[np.ndarray, '*batch'], kept: Int[np.ndarray, 'B']) -> Forms:
  """Returns questions as they are, and after each of the kept preference prompts.

  Args:
    numbers: of the questions.
    kept: numbers of preference prompts, 2 axis + pole.
  """
  nothing = np.full((1, styles.STATEMENT_LENGTH), styles.PAD)
  said = [styles.ids(('i', 'like', styles.POLES[one], 'answers', '.')) for one in kept]
  return _after(numbers, np.concatenate([nothing, np.stack(said)]))


def shown(numbers: Int[np.ndarray, '*batch'], answers: Int[np.ndarray, '*batch E R']) -> Forms:
  """Returns questions as they are, and after the last NUM_EXAMPLES answers that somebody liked."""
  examples = answers[..., -NUM_EXAMPLES:, :].reshape(*numbers.shape, 1, -1)
  return _after(numbers, np.concatenate([np.zeros_like(examples), examples], -2))


def _after(numbers: np.ndarray, said: np.ndarray) -> Forms:
  """Returns questions [*batch, L] behind texts [*batch, M, S], both behind the BOS."""
  asked = questions()[numbers][..., None, :]
  lead = (*numbers.shape, said.shape[-2])
  asked, said = (np.broadcast_to(x, (*lead, x.shape[-1])) for x in (asked, said))
  tokens = np.concatenate([asked[..., :1], said, asked[..., 1:]], -1).astype(np.int32)
  return Forms(tokens, tokens != styles.PAD)

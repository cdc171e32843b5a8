"""A frozen model of the small grammar that writes and reads by preference prompts, many at once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import HostOrDevice
from metapers.core.types import Float, Int, Params, PRNGKey
from metapers.llm import generate, steer, styled_prompts, styles, tastes
from metapers.llm.decoder import Decoder
from metapers.llm.steer import Features, Forms, Reading

CHUNK_SIZE = 256  # responses read at once
DRAW = generate.Sampling(temperature=1.0)


class Writer(NamedTuple):
  """A frozen model with the preference prompts that move it.

  kept: numbers of the prompts, see `styled_prompts`. moves: of all prompts, in standard deviations.
  """

  model: Decoder
  params: Params
  kept: Int[np.ndarray, 'B']
  moves: Float[np.ndarray, 'all']


def writer(
  model: Decoder, params: Params, numbers: Int[HostOrDevice, 'P'], *, num_answers: int, seed: int
) -> Writer:
  """Returns a model with those prompts that move its own answers by at least LEAST_MOVE.

  Args:
    model: decoder.
    params: of it.
    numbers: of questions to try prompts on.
    num_answers: to try each prompt on.
    seed: of the answers.

  Raises:
    ValueError: where no prompt does, or for fewer than two answers.
  """
  if num_answers < 2:
    raise ValueError(f'num_answers must be at least 2, to have a deviation, got {num_answers}')
  every = np.arange(styled_prompts.NUM_PROMPTS)
  asked = np.broadcast_to(np.resize(numbers, num_answers), (1 + len(every), num_answers))
  trial = Writer(model, params, every, np.zeros(len(every)))
  own = np.repeat(np.arange(1 + len(every)), num_answers)  # the base, and each prompt alone
  forms = jax.tree.map(
    lambda x: x[np.arange(len(own)), own][:, None], forms_of(trial, asked.reshape(-1))
  )
  alone = np.ones((1 + len(every), 1), np.float32)
  drawn = written(trial, asked, alone, jax.random.key(seed), forms)
  found = tastes.styles_of(drawn)  # [1 + all, n, axes]
  signs, axes = (2 * (every % 2) - 1)[:, None], every // 2
  moves = steer.moves(signs * found[1 + every, :, axes], signs * found[0].T[axes])
  kept = np.flatnonzero(moves >= steer.LEAST_MOVE)
  if not kept.size:
    raise ValueError(
      f'no preference prompt moves the answers of the model by {steer.LEAST_MOVE} standard '
      f'deviations (the best by {moves.max():.2f}): train it for longer'
    )
  return Writer(model, params, kept, moves)


def forms_of(writer: Writer, numbers: Int[HostOrDevice, '*batch']) -> Forms:
  """Returns the forms of questions by their numbers."""
  return styled_prompts.forms(np.asarray(numbers), writer.kept)


def lengths_of(responses: Int[HostOrDevice, '*batch R']) -> Float[np.ndarray, '*batch']:
  """Returns the number of tokens of each response."""
  return (np.asarray(responses) != styles.PAD).sum(-1).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _ratios(model, params, given):
  forms, responses = given
  return steer.log_ratios(model, params, forms, responses, responses != styles.PAD)


def ratios_of(
  writer: Writer, numbers: Int[HostOrDevice, '*batch'], responses: Int[HostOrDevice, '*batch K R']
) -> Float[np.ndarray, '*batch K B']:
  """Returns φ of K responses to each question."""
  shape = responses.shape[:-1]
  repeated = np.repeat(numbers.reshape(-1), shape[-1])
  given = forms_of(writer, repeated), responses.reshape(len(repeated), -1)
  function = functools.partial(_ratios, writer.model, writer.params)
  found = tastes.host_chunks(function, given, CHUNK_SIZE)
  return found.reshape(*shape, -1)


def features_of(
  writer: Writer,
  made: Features,
  numbers: Int[HostOrDevice, '*batch'],
  responses: Int[HostOrDevice, '*batch K R'],
) -> Float[np.ndarray, '*batch K B']:
  """Returns what learners read of K responses to each question."""
  return np.asarray(made(ratios_of(writer, numbers, responses), lengths_of(responses)))


def written(
  writer: Writer,
  numbers: Int[HostOrDevice, 'T M'],
  shares: Float[HostOrDevice, 'T forms'],
  key: PRNGKey,
  forms: Forms | None = None,
) -> Int[np.ndarray, 'T M R']:
  """Returns an answer to each question, drawn by each user's shares of the forms.

  Args:
    writer: model and prompts.
    numbers: of the questions.
    shares: of users.
    key: of the draws.
    forms: of the questions, flat; those of the kept prompts by default.
  """
  forms = forms_of(writer, numbers.reshape(-1)) if forms is None else forms
  repeated = jnp.asarray(np.repeat(shares, numbers.shape[1], 0))
  draw = _generator(writer.model)
  inputs = steer.inputs_of(writer.model, writer.params, forms)
  found = draw(writer.params, inputs, key, shares=repeated)
  return np.asarray(found.tokens).reshape(*numbers.shape, -1)


@functools.cache
def _generator(model: Decoder) -> generate.Generator:
  return generate.generator(
    model, num_tokens=styles.RESPONSE_LENGTH, end_tokens=(styles.EOS,), sampling=DRAW
  )


@functools.partial(jax.jit, static_argnums=0)
def _read(model, params, given):
  forms, responses, shares = given
  return steer.read(model, params, forms, responses, responses != styles.PAD, shares)


def readings(
  writer: Writer,
  forms: Forms,
  responses: Int[HostOrDevice, '*batch R'],
  shares: Float[HostOrDevice, '*batch M'],
) -> Reading:
  """Returns what the base and the steered policy say of responses."""
  shape = responses.shape[:-1]
  given = jax.tree.map(
    lambda x: np.asarray(x).reshape(-1, *x.shape[len(shape) :]), (forms, responses, shares)
  )
  function = functools.partial(_read, writer.model, writer.params)
  found = tastes.host_chunks(function, given, CHUNK_SIZE)
  return jax.tree.map(lambda x: x.reshape(shape), found)

"""What tuned models write for users who like opposed styles: in which, and is it an answer."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.language import policies
from metapers.bench.language.policies import Study
from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.types import Array, Context
from metapers.llm import generate, styled_users, styles, trained
from metapers.llm.decoder import Decoder
from metapers.llm.trained import Trained

NUM_USERS, NUM_PROMPTS = 4, 32  # of each type; of each of them
NUM_SHOWN = 3
NOBODY = 'nobody'
WAYS = {'generated': 1.0, 'likeliest': 0.0}  # the temperature at which answers are drawn


class Written(NamedTuple):
  """What is written for somebody, and what it is worth.

  shares: `WAY@POLE` -> how many of the answers show the pole, and `WAY_well_formed@POLE` -> how
  many are whole answers to their questions, where the pole is what the users like; of nobody
  without @POLE. texts: a line of each of the likeliest answers to the first questions.
  """

  shares: dict[str, float]
  texts: list[str]


def written(
  model: Decoder, made: Trained, study: Study, seed: int
) -> tuple[list[tuple[bool, dict[str, float]]], str]:
  """Returns what a row's answers are worth, each with whether it is of nobody, and some of them.

  The arguments are those of `of_users`; of a row that does not tell users apart it is nobody alone.
  """
  nobody = of_nobody(model, made, study, seed)
  found, texts = [(True, nobody.shares)], list(nobody.texts)
  if policies.differs(made):
    known = of_users(model, made, study, seed)
    found.append((False, known.shares))
    texts += known.texts
  return found, side_by_side(texts)


def of_users(model: Decoder, made: Trained, study: Study, seed: int) -> Written:
  """Returns what known users get for test prompts, by what they like.

  Args:
    model: decoder.
    made: of a row with soft tokens.
    study: the users.
    seed: of the users' prompts, as of the study.
  """
  kinds = styled_users.type_of(study.splits[SEEN])
  shares, texts = {}, []
  for kind in np.unique(kinds):
    pole, users = styles.POLES[kind], np.flatnonzero(kinds == kind)[:NUM_USERS]
    said = jax.tree.map(lambda x, own=users: x[own], study.splits[SEEN].tasks.context)
    found = _answers(model, made, users, seed, said)
    shares |= {f'{way}@{pole}': share(answers, kind) for way, answers in found.items()}
    shares |= {f'{name}@{pole}': value for name, value in _well_formed(found, seed).items()}
    texts += _shown(pole, found, seed)
  return Written(shares, texts)


def of_nobody(model: Decoder, made: Trained, study: Study, seed: int) -> Written:
  """Returns what somebody gets of whom nothing is known; the arguments are those of `of_users`."""
  kinds = np.unique(styled_users.type_of(study.splits[SEEN]))
  found = _answers(model, made, study.num_users + np.arange(NUM_USERS), seed)
  shares = {
    f'{way}@{styles.POLES[kind]}': share(answers, kind)
    for way, answers in found.items()
    for kind in kinds
  }
  return Written(shares | _well_formed(found, seed), _shown(NOBODY, found, seed))


def share(answers: Array, kind: int) -> float:
  """Returns how many answers show what users of a type (2 axis + pole) like."""
  shown = np.asarray(styles.style_of(answers))[..., kind // 2]
  return float(np.mean(shown == 2 * (kind % 2) - 1))


def side_by_side(texts: Sequence[str]) -> str:
  """Returns lines of several in the order of their questions, those of one question together."""
  return '\n'.join(sorted(texts, key=lambda line: line[11:45]))


def _questions(seed: int) -> Array:
  return jnp.asarray(styled_users.prompts(seed).test[:NUM_PROMPTS])


def _well_formed(found: Mapping[str, Array], seed: int) -> dict[str, float]:
  def whole(answers):
    numbers = jnp.broadcast_to(_questions(seed), answers.shape[:-1])
    return float(jnp.mean(styles.is_well_formed(answers, numbers)))

  return {f'{way}_well_formed': whole(answers) for way, answers in found.items()}


def _shown(label: str, found: Mapping[str, Array], seed: int) -> list[str]:
  numbers = _questions(seed)[:NUM_SHOWN]
  return [
    f'{label:<10} {styles.words_of(np.asarray(styles.prompt_of(number)))} '
    f'{styles.words_of(np.asarray(answer))}'
    for number, answer in zip(numbers, found['likeliest'][0], strict=False)
  ]


def _answers(
  model: Decoder, made: Trained, rows: np.ndarray, seed: int, said: Context | None = None
) -> dict[str, Array]:
  """Returns the tokens of an answer of each way to each question of each row, [U, P, R].

  `said` is what the users of the rows say of themselves, None for nothing.
  """
  own = [
    task.no_context() if said is None else jax.tree.map(lambda x, at=at: x[at], said)
    for at in range(len(rows))
  ]
  return {
    way: jnp.stack(
      [
        _responses(model, made, int(row), context, seed, temperature)
        for row, context in zip(rows, own, strict=True)
      ]
    )
    for way, temperature in WAYS.items()
  }


def _responses(
  model: Decoder, made: Trained, row: int, context: Context, seed: int, temperature: float
) -> Array:
  state = made.policy.state_of(made.params, jnp.asarray(row, jnp.int32), context)
  prompts = np.asarray(jax.vmap(styles.prompt_of)(_questions(seed))).tolist()
  generator = _generator(model, temperature)
  return trained.replies(model, made, state, prompts, generator, jax.random.key(row)).tokens


@functools.cache
def _generator(model: Decoder, temperature: float) -> generate.Generator:
  return generate.generator(
    model,
    num_tokens=styles.RESPONSE_LENGTH,
    end_tokens=(styles.EOS,),
    sampling=generate.Sampling(temperature=temperature),
  )

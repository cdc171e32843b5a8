"""What tuned models write for users who like opposed styles, and which style it has."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.policies import Study, Trained
from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.types import Array
from metapers.llm import generate, p_dpo, styled_users, styles
from metapers.llm.decoder import Decoder
from metapers.llm.prompting import Inputs

NUM_USERS, NUM_PROMPTS = 4, 32  # of each type; of each of them
NUM_SHOWN = 3


class Written(NamedTuple):
  """shares: `generated@POLE` -> how often users of the pole get it. texts: of one user of each."""

  shares: dict[str, float]
  texts: str


def written(model: Decoder, made: Trained, study: Study, seed: int) -> Written:
  """Returns what known users get for test prompts: drawn at temperature 1, and the likeliest.

  Args:
    model: decoder.
    made: of a row with soft tokens.
    study: the users.
    seed: of the users' prompts, as of the study.
  """
  kinds = styled_users.type_of(study.splits[SEEN])
  numbers = jnp.asarray(styled_users.prompts(seed).test[:NUM_PROMPTS])
  shares, lines, drawing, likeliest = {}, [], _generator(model, 1.0), _generator(model, 0.0)
  for kind in np.unique(kinds):
    users = np.flatnonzero(kinds == kind)[:NUM_USERS]
    drawn = [_responses(model, made, int(user), numbers, drawing) for user in users]
    poles = np.asarray(styles.style_of(jnp.concatenate(drawn)))[:, kind // 2]
    shares[f'generated@{styles.POLES[kind]}'] = float(np.mean(poles == 2 * (kind % 2) - 1))
    shown = _responses(model, made, int(users[0]), numbers[:NUM_SHOWN], likeliest)
    lines += [
      f'{styles.POLES[kind]:<10} {styles.words_of(np.asarray(styles.prompt_of(number)))} '
      f'{styles.words_of(np.asarray(response))}'
      for number, response in zip(numbers, shown, strict=False)
    ]
  return Written(shares, '\n'.join(sorted(lines, key=lambda line: line[11:45])))


def _generator(model: Decoder, temperature: float) -> generate.Generator:
  return generate.generator(
    model,
    num_tokens=styles.RESPONSE_LENGTH,
    end_tokens=(styles.EOS,),
    sampling=generate.Sampling(temperature=temperature),
  )


def _responses(
  model: Decoder, made: Trained, user: int, numbers: Array, draw: generate.Generator
) -> Array:
  """Returns the tokens of a response to each prompt."""
  params, adapter = made.params, made.policy.adapter
  base, tokens = params['base'], jax.vmap(styles.prompt_of)(numbers)
  state = made.policy.state_of(params, jnp.asarray(user, jnp.int32), task.no_context())
  inputs = Inputs(model.embed(base, tokens), tokens != styles.PAD)
  prompt = p_dpo.prompted(model, base, inputs, state)
  changes = adapter.scaled(params['lora']) if adapter else None
  return draw(base, prompt, jax.random.key(user), lora=changes).tokens

"""Users who are texts: what a model likes best where it is told whom it answers.

A model reads a persona before each prompt; the response that it then finds best has that user's
vote. What the model would like best for nobody in particular tells how much personas move it.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, section 2, whose persona-prompting baseline has one reward
  model score for 500 personas of PersonaHub, by a prompt that is not published. Unlike there,
  personas and prompt are the ones below.
"""

from collections.abc import Sequence

import numpy as np

from metapers.analysis import sampling
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Cell
from metapers.core.types import Bool, Float, Int

NOBODY = ''  # the persona of a prompt as it is
TOLD = 'About me: {persona} Answer in the way that suits me.\n\n{prompt}'
PERSONAS = (
  'I teach physics at a university and want the reasoning, not the result alone.',
  'I am nine years old and like short answers with a joke in them.',
  'I am a retired nurse who reads slowly; please be warm and use plain words.',
  'I edit a newspaper and cut every sentence that says nothing.',
  'I write software all day and want lists, numbers and exact steps.',
  'I am learning English and know only its commonest words.',
  'I am a poet and care for rhythm and images more than for facts.',
  'I am a lawyer: I want conditions, exceptions and careful wording.',
  'I run a small farm, get up at five, and have no time for introductions.',
  'I am a student before an exam and want everything there is to know.',
  'I do not trust confident answers; tell me what is uncertain.',
  'I am cheerful, love exclamation marks, and want to be encouraged.',
  'I am a historian and want names, dates and where things come from.',
  'I cook for a living and think in examples that one can taste.',
  'I am blind and have answers read to me, so lists and tables do not help.',
  'I lead a company and want the conclusion first, then three reasons at most.',
  'I am shy and worried, and like to be asked back before I am advised.',
  'I like to argue; give me the strongest case against what I believe.',
  'I study philosophy and prefer a good question to a quick answer.',
  'I repair cars; speak to me directly, as one mechanic to another.',
)
PER_TOKEN, TOTAL, OVER_NOBODY = 'per token', 'in all', 'over nobody'
MOVED, MISSING = 'votes that differ from the vote for nobody', 'answers missing'
PERCENT = 100.0
LEAST_RESPONSES = 5  # to a prompt, among whom there is something to disagree on


def told(persona: str, prompt: str) -> str:
  """Returns the prompt of a user who says who they are; as it is for NOBODY."""
  return prompt if persona == NOBODY else TOLD.format(persona=persona, prompt=prompt)


def short_slates(
  given: Slates, responses: np.ndarray, *, most_chars: int, num_prompts: int, seed: int = 0
) -> Slates:
  """Returns the slates of random prompts, without responses that are longer than asked for.

  Args:
    given: slates of a store.
    responses: [P, R] texts of these slates.
    most_chars: of each response that is kept.
    num_prompts: at most, of those with LEAST_RESPONSES that are kept.
    seed: of which prompts.

  Raises:
    ValueError: where no prompt has so many responses so short.
  """
  lengths = np.vectorize(lambda text: len(text or ''), otypes=[np.int64])(responses)
  mask = given.mask & (lengths <= most_chars)
  least = min(LEAST_RESPONSES, mask.shape[1])
  fits = np.flatnonzero(mask.sum(1) >= least)
  if not fits.size:
    raise ValueError(
      f'no prompt has {least} responses of at most {most_chars} characters; allow longer ones'
    )
  drawn = np.random.default_rng([seed, 16]).permutation(fits)[:num_prompts]
  return given._replace(mask=mask).only(np.sort(drawn))


def utilities(
  log_probs: Float[np.ndarray, 'V P R'], num_tokens: Int[np.ndarray, 'P R']
) -> dict[str, Float[np.ndarray, 'V P R']]:
  """Returns what a language model's likelihoods say of how good responses are, in three ways.

      in all:       log p(y | persona, x)
      per token:    log p(y | persona, x) / |y|
      over nobody:  log p(y | persona, x) - log p(y | x)

  Args:
    log_probs: of V personas, the first of whom is NOBODY, in nats.
    num_tokens: |y| of each response; anything where there is none.

  Returns:
    The utilities to the same V; over nobody, all are alike to NOBODY.
  """
  return {
    TOTAL: log_probs,
    PER_TOKEN: log_probs / np.maximum(num_tokens, 1),
    OVER_NOBODY: log_probs - log_probs[:1],
  }


def picks(
  utility: Float[np.ndarray, 'V P R'], mask: Bool[np.ndarray, 'P R'], *, seed: int = 0
) -> Int[np.ndarray, 'V P']:
  """Returns the response that each user likes best; of tied ones one is drawn, -1 for no answer.

  Args:
    utility: NaN where a user gave no answer to a prompt.
    mask: where a response is real.
    seed: of the draws.
  """
  is_there = np.asarray(np.all(np.isfinite(utility) | ~mask, axis=-1))  # [V, P]
  known = np.where(mask & is_there[..., None], utility, -np.inf)
  is_best = mask & (known == known.max(-1, keepdims=True))
  drawn = np.random.default_rng([seed, 17]).random(utility.shape)
  return np.where(is_there, np.where(is_best, drawn, -1.0).argmax(-1), -1)


def vote_for_nobody(
  utility: Float[np.ndarray, 'P R'], picked: Int[np.ndarray, 'P']
) -> Int[np.ndarray, 'P']:
  """Returns NOBODY's votes, -1 where all responses are alike to them and the vote is drawn."""
  spread = np.nanmax(utility, 1, initial=-np.inf) - np.nanmin(utility, 1, initial=np.inf)
  return np.where(spread > 0, picked, -1)


def votes(picked: Int[np.ndarray, 'V P'], num_responses: int) -> Int[np.ndarray, '1 P R']:
  """Returns how many users picked each response, as one draw of voters."""
  is_picked = picked[..., None] == np.arange(num_responses)
  return is_picked.sum(0, dtype=np.int64)[None]


def moved(picked: Int[np.ndarray, 'V P'], of_nobody: Int[np.ndarray, 'P']) -> list[Cell]:
  """Returns how often personas pick another response than NOBODY, and how many gave no answer.

  In percent; the error is for new personas and new prompts.

  Args:
    picked: of personas; -1 for no answer.
    of_nobody: of the model without a persona.
  """
  is_there = (picked >= 0).all(0) & (of_nobody >= 0)
  missing = Cell('all prompts', MISSING, PERCENT * float((picked < 0).mean()))
  if not is_there.any():
    return [missing]
  differs = (picked != of_nobody)[:, is_there].astype(np.float64)
  return [Cell('all prompts', MOVED, *sampling.two_way(PERCENT * differs)), missing]


def checked_personas(lines: Sequence[str]) -> tuple[str, ...]:
  """Returns the personas of lines of text, without empty ones.

  Raises:
    ValueError: for fewer than two, or one twice.
  """
  found = tuple(line.strip() for line in lines if line.strip())
  if len(found) < 2 or len(set(found)) < len(found):
    raise ValueError(
      f'personas are at least two different texts, one a line; got {len(found)}, '
      f'{len(set(found))} of them different'
    )
  return found

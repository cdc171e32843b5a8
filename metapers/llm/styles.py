"""Questions and answers from a small grammar, whose styles are known by construction.

A question is 'why does the ADJECTIVE NOUN VERB ?'. An answer says why, and has one of two poles on
each of AXES, apart from what it says. All is drawn on the device, so that a language model can be
trained on a stream that never repeats, and styles are read off the words again, without a judge.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import HostOrDevice
from metapers.core.types import Array, Bool, Float, Int, PRNGKey

PAD, BOS, EOS = 0, 1, 2
AXES = {  # the poles of each, -1 and +1
  'warmth': ('curt', 'warm'),
  'register': ('plain', 'technical'),
  'length': ('short', 'long'),
  'certainty': ('careful', 'sure'),
  'ending': ('final', 'inviting'),
}
ADJECTIVES = ('old', 'small', 'red', 'cold', 'heavy', 'wild', 'quiet', 'bright')
NOUNS = (
  'river', 'engine', 'bird', 'market', 'garden', 'star', 'bridge', 'clock',
  'forest', 'wheel', 'cloud', 'stone', 'boat', 'lamp', 'field', 'wolf',
)  # fmt: skip
# Each has a plain and a technical form.
VERBS = (
  ('moves', 'translates'), ('grows', 'proliferates'), ('stops', 'terminates'),
  ('breaks', 'fractures'), ('turns', 'rotates'), ('falls', 'descends'),
  ('shines', 'radiates'), ('waits', 'idles'),
)  # fmt: skip
CAUSES = (
  ('heat', 'enthalpy'), ('rain', 'precipitation'), ('weight', 'mass'), ('wind', 'advection'),
  ('age', 'senescence'), ('light', 'irradiance'), ('hunger', 'deficit'), ('noise', 'perturbation'),
)  # fmt: skip
OPENERS = (
  (('listen', 'now'), ('look', 'here'), ('well', 'fine')),
  (('dear', 'friend'), ('thanks', 'kindly'), ('good', 'question')),
)
HEDGES = (
  (('i', 'think'), ('it', 'seems'), ('we', 'guess')),
  (('no', 'doubt'), ('of', 'course'), ('quite', 'certainly')),
)
CLOSINGS = (
  (('that', 'is', 'all', '.'), ('nothing', 'more', 'follows', '.')),
  (('shall', 'we', 'continue', '?'), ('want', 'further', 'details', '?')),
)
PLAIN = ('why', 'does', 'the', '?', 'because', 'and', 'also', 'i', 'like', 'answers', '.')

POLES = tuple(word for poles in AXES.values() for word in poles)


def _words() -> tuple[str, ...]:
  nested = (*VERBS, *CAUSES, *sum((*OPENERS, *HEDGES, *CLOSINGS), ()))
  every = ('<pad>', '<bos>', '<eos>', *PLAIN, *ADJECTIVES, *NOUNS, *sum(nested, ()), *POLES)
  return tuple(dict.fromkeys(every))


WORDS = _words()
IDS = {word: index for index, word in enumerate(WORDS)}
PROMPT_LENGTH = 8
RESPONSE_LENGTH = 18
STATEMENT_LENGTH = 5
NUM_PROMPTS = len(ADJECTIVES) * len(NOUNS) * len(VERBS)


class Texts(NamedTuple):
  """Prompts with a response each.

  prompt: [..., PROMPT_LENGTH] tokens, all real. response: [..., RESPONSE_LENGTH] tokens, its end
  among them, and PAD on the right.
  """

  prompt: Int[Array, '*batch L']
  response: Int[Array, '*batch R']


def ids(words: Sequence) -> np.ndarray:
  """Returns the ids of words, nested in any way."""
  found = np.vectorize(IDS.__getitem__, otypes=[np.int32])
  return found(np.asarray(words, object))


def prompt_of(number: Int[Array, '']) -> Int[Array, 'L']:
  """Returns the tokens of one of NUM_PROMPTS questions; the beginning of a text is the first."""
  adjective, noun, verb = parts_of(number)
  fixed = {word: jnp.asarray(IDS[word], jnp.int32) for word in PLAIN}
  asked = [jnp.asarray(BOS, jnp.int32), fixed['why'], fixed['does'], fixed['the']]
  content = [jnp.asarray(ids(ADJECTIVES))[adjective], jnp.asarray(ids(NOUNS))[noun]]
  return jnp.stack([*asked, *content, jnp.asarray(ids(VERBS))[verb, 0], fixed['?']])


def parts_of(number: Int[Array, '*batch']) -> tuple[Array, Array, Array]:
  """Returns which adjective, noun and verb each question is of."""
  verb, rest = number % len(VERBS), number // len(VERBS)
  return rest // len(NOUNS), rest % len(NOUNS), verb


def response_of(key: PRNGKey, number: Int[Array, ''], poles: Int[Array, '5']) -> Int[Array, 'L']:
  """Returns the tokens of an answer in a style, right-padded; its end is EOS.

  Args:
    key: draws what is said: causes and turns of phrase.
    number: of the question.
    poles: 0 or 1 on each of AXES.
  """
  warmth, register, length, certainty, ending = poles
  keys = jax.random.split(key, 4)
  opener, hedge = (jax.random.randint(k, (), 0, 3, jnp.int32) for k in keys[:2])
  closing = jax.random.randint(keys[2], (), 0, 2, jnp.int32)
  first, second = jax.random.permutation(keys[3], len(CAUSES))[:2]
  _, noun, verb = parts_of(number)
  because, both, also, the = ids(('because', 'and', 'also', 'the'))
  causes = jnp.asarray(ids(CAUSES))
  more = jnp.stack([jnp.asarray(both), jnp.asarray(also), causes[second, register]])
  tokens = jnp.concatenate(
    [
      jnp.asarray(ids(OPENERS))[warmth, opener],
      jnp.asarray(ids(HEDGES))[certainty, hedge],
      jnp.stack([jnp.asarray(the), jnp.asarray(ids(NOUNS))[noun]]),
      jnp.stack([jnp.asarray(ids(VERBS))[verb, register], jnp.asarray(because)]),
      causes[first, register][None],
      jnp.where(length == 1, more, PAD),
      jnp.asarray(ids(CLOSINGS))[ending, closing],
      jnp.asarray([EOS], jnp.int32),
    ]
  )
  return padded_right(tokens, RESPONSE_LENGTH)


def padded_right(tokens: Int[Array, 'M'], length: int) -> Int[Array, 'L']:
  """Returns the tokens that are no PAD, in their order, with PAD behind them."""
  order = jnp.argsort(tokens == PAD, stable=True)
  return jnp.pad(tokens[order], (0, max(length - len(tokens), 0)))[:length]


def text_of(key: PRNGKey, number: Int[Array, ''], poles: Int[Array, '5']) -> Texts:
  """Returns a question with an answer in a style."""
  return Texts(prompt_of(number), response_of(key, number, poles))


def statement_of(axis: int | Int[Array, ''], pole: int | Int[Array, '']) -> Int[Array, 'L']:
  """Returns the tokens of 'i like POLE answers .'."""
  before, after = ids(('i', 'like')), ids(('answers', '.'))
  word = jnp.asarray(ids(POLES))[2 * axis + pole]
  return jnp.concatenate([jnp.asarray(before), word[None], jnp.asarray(after)])


def words_of(tokens: Sequence[int] | HostOrDevice) -> str:
  """Returns the text of tokens up to their end; what marks begin, end and padding is left out."""
  shown = []
  for token in tokens:
    if token == EOS:
      break
    shown += [WORDS[token]] if token not in (PAD, BOS) else []
  return ' '.join(shown)


def _markers() -> np.ndarray:
  marks = np.zeros((len(WORDS), len(AXES)), np.float32)
  by_axis = (OPENERS, tuple(zip(*(*VERBS, *CAUSES))), None, HEDGES, CLOSINGS)
  for axis, poles in enumerate(by_axis):
    for sign, words in zip((-1, 1), poles or ()):
      marks[np.unique(ids(words)), axis] += sign
  marks[IDS['also'], list(AXES).index('length')] = 1
  return marks


MARKERS = _markers()  # [words, axes]; 0 of a word that both poles, or neither, use


def style_of(responses: Int[Array, '*batch L']) -> Float[Array, '*batch 5']:
  """Returns the pole, -1 or +1, that the words of each response show on each axis; 0 for neither.

  A response that gives no second cause is short.
  """
  total = jnp.asarray(MARKERS)[responses].sum(-2)
  length = list(AXES).index('length')
  return jnp.sign(total.at[..., length].add(-0.5))


def is_well_formed(
  responses: Int[Array, '*batch L'], numbers: Int[Array, '*batch']
) -> Bool[Array, '*batch']:
  """Tells which responses are answers that `response_of` gives to their questions in some style.

  Args:
    responses: [..., RESPONSE_LENGTH] tokens; those behind the end are PAD.
    numbers: of the questions.
  """
  _, noun, verb = parts_of(numbers)
  registers = jnp.asarray(ids(VERBS))[verb]
  first, second = (_registers_of_cause(responses[..., at]) for at in (8, 11))
  is_long = _ends(responses, 12) & _is_at(responses, 9, 'and') & _is_at(responses, 10, 'also')
  is_long &= responses[..., 8] != responses[..., 11]
  is_said = first & (responses[..., 6, None] == registers)
  is_said &= _ends(responses, 9)[..., None] | is_long[..., None] & second
  is_framed = _is_phrase(responses, 0, OPENERS) & _is_phrase(responses, 2, HEDGES)
  is_framed &= _is_at(responses, 4, 'the') & _is_at(responses, 7, 'because')
  return is_framed & (responses[..., 5] == jnp.asarray(ids(NOUNS))[noun]) & is_said.any(-1)


def _registers_of_cause(tokens: Array) -> Array:
  """Returns in which of the two registers a token is a cause: [..., 2]."""
  return jnp.stack([jnp.isin(tokens, jnp.asarray(causes)) for causes in ids(CAUSES).T], -1)


def _is_at(responses: Array, at: int, word: str) -> Array:
  return responses[..., at] == IDS[word]


def _is_phrase(responses: Array, at: int, phrases: Sequence) -> Array:
  known = jnp.asarray(ids(sum(phrases, ())))  # [phrases, words]
  shown = responses[..., None, at : at + known.shape[1]]
  return (shown == jnp.broadcast_to(known, (*shown.shape[:-2], *known.shape))).all(-1).any(-1)


def _ends(responses: Array, at: int) -> Array:
  """Tells which responses have a closing at a place, and then their end and nothing more."""
  end = at + len(CLOSINGS[0][0])
  is_over = (responses[..., end] == EOS) & (responses[..., end + 1 :] == PAD).all(-1)
  return _is_phrase(responses, at, CLOSINGS) & is_over

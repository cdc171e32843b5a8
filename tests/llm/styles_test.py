import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core.population import SEEN
from metapers.llm import p_dpo, styled_users, styles, text_users

POLES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (300, len(styles.AXES))), jnp.int32)
NUMBERS = jnp.arange(300, dtype=jnp.int32) * 3
TEXTS = jax.jit(jax.vmap(styles.text_of))(jax.random.split(jax.random.key(0), 300), NUMBERS, POLES)


def test_a_style_is_read_off_the_words():
  np.testing.assert_array_equal(styles.style_of(TEXTS.response), 2 * POLES - 1)


def test_responses_end_once_and_fit():
  ends = np.asarray(TEXTS.response == styles.EOS)
  assert (ends.sum(-1) == 1).all()
  behind = np.cumsum(ends, -1) - ends
  assert (np.asarray(TEXTS.response)[behind > 0] == styles.PAD).all()


def every_answer(number):
  """All answers of the grammar to a question, phrase by phrase."""
  _, noun, verb = (int(part) for part in styles.parts_of(jnp.asarray(number)))
  openers, hedges, closings = (
    [phrase for pole in poles for phrase in pole]
    for poles in (styles.OPENERS, styles.HEDGES, styles.CLOSINGS)
  )
  for register in (0, 1):
    causes = [cause[register] for cause in styles.CAUSES]
    reasons = [(one,) for one in causes]
    reasons += [(one, 'and', 'also', other) for one, other in itertools.permutations(causes, 2)]
    said = ('the', styles.NOUNS[noun], styles.VERBS[verb][register], 'because')
    for opener, hedge, reason, closing in itertools.product(openers, hedges, reasons, closings):
      yield (*opener, *hedge, *said, *reason, *closing)


def test_answers_of_the_grammar_are_well_formed_and_with_a_word_changed_others_are_not():
  number = 77
  every = set(every_answer(number))
  assert len(every) == 6 * 6 * 2 * (8 + 8 * 7) * 4
  rng = np.random.default_rng(0)
  some = [list(every)[i] for i in rng.integers(len(every), size=300)]
  edited = [list(words) for words in some]
  for words in edited:  # another word, or one more or less
    at, word = rng.integers(len(words)), styles.WORDS[rng.integers(3, len(styles.WORDS))]
    words[at : at + rng.integers(2)] = [word] * rng.integers(2)
  repeated = [(*words[:11], words[8], *words[12:]) for words in some if words[10] == 'also']
  texts = [tuple(words) for words in (*some, *edited, *repeated)]
  tokens = np.zeros((len(texts), styles.RESPONSE_LENGTH), np.int32)
  for row, words in zip(tokens, texts):
    row[: len(words) + 1] = [*styles.ids(words), styles.EOS]
  found = styles.is_well_formed(jnp.asarray(tokens), jnp.full(len(texts), number))
  expected = [words in every for words in texts]
  np.testing.assert_array_equal(found, expected)
  assert 300 < sum(expected) < 400 and len(repeated) > 200


def test_answers_are_well_formed_to_their_own_questions_alone():
  assert styles.is_well_formed(TEXTS.response, NUMBERS).all()
  assert not styles.is_well_formed(TEXTS.response, NUMBERS + 1).any()
  assert not styles.is_well_formed(TEXTS.response.at[:, -1].set(5), NUMBERS).any()
  unended = jnp.where(TEXTS.response == styles.EOS, styles.PAD, TEXTS.response)
  assert not styles.is_well_formed(unended, NUMBERS).any()


def test_words_come_back():
  text = styles.words_of(TEXTS.prompt[7])
  assert text.startswith('why does the ') and text.endswith(' ?')
  assert styles.words_of(styles.statement_of(0, 1)) == 'i like warm answers .'


def users(**options):
  given = {'num_users': 20, 'num_pairs': 6, 'num_held_out': 10, 'num_query': 4}
  return styled_users.styled_users(**given | options)


def test_users_choose_the_pole_they_like():
  splits = users(num_axes=3, shares=(1,) * 6)
  for name, split in splits.items():
    query = split.tasks.support if name == 'train' else split.tasks.query
    shown = styles.style_of(query.candidates.features['response'])  # [U, N, 2, axes]
    kinds = styled_users.type_of(split)
    chosen = np.take_along_axis(np.asarray(shown), np.asarray(query.choice)[..., None, None], 2)
    own = chosen[np.arange(len(kinds)), :, 0, kinds // 2]
    np.testing.assert_array_equal(own, np.broadcast_to(2 * (kinds % 2) - 1, own.T.shape).T)


def test_shares_are_exact_and_prompts_of_splits_apart():
  splits = users()
  assert sorted(np.bincount(styled_users.type_of(splits[SEEN]))) == [7, 13]
  shown = {
    name: set(np.asarray(split.truth.query_prompts).ravel()) for name, split in splits.items()
  }
  trained = set(np.asarray(splits['train'].truth.support_prompts).ravel())
  assert not trained & shown['test'] and not shown['validation'] & shown['test']
  assert not trained & shown[SEEN]


def test_half_of_the_users_say_what_they_like():
  splits = users(num_axes=5, shares=(1,) * 10, statement_rate=0.5)
  context = splits['train'].tasks.context
  says = np.asarray(context['mask'].all(-1))
  assert says.sum() == 10
  kind = styled_users.type_of(splits[SEEN])
  words = [styles.words_of(text) for text in context['text']]
  assert words[3] == f'i like {styles.POLES[kind[3]]} answers .'


def test_training_draws_each_users_own_comparisons():
  splits = users()
  population = text_users.text_users(splits, num_query=3, source='styles')
  keys = jax.random.split(jax.random.key(0), 50)
  drawn, _ = jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train'))(keys)
  kinds = styled_users.type_of(splits[SEEN])[np.asarray(drawn.user)]
  shown = np.asarray(styles.style_of(drawn.query.candidates.features['response']))[..., 0]
  chosen = np.take_along_axis(shown, np.asarray(drawn.query.choice)[..., None], 2)[..., 0]
  np.testing.assert_array_equal(chosen, np.broadcast_to(2 * (kinds % 2) - 1, (3, 50)).T)
  assert drawn.support.choice.shape == (50, 0)
  assert population.spec.num_held_out[SEEN] == 20


def test_a_missing_split_is_refused():
  splits = users()
  del splits['validation']
  with pytest.raises(ValueError, match='splits lack validation'):
    text_users.text_users(splits, num_query=3, source='styles')


def test_features_have_room_for_the_reference():
  features = p_dpo.sequences(*jnp.ones((4, 2, 3, 5)))
  assert features['reference'].shape == (2, 3)

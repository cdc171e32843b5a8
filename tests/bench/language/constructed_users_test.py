"""Users with constructed preferences: their choices are recomputed here from the texts alone."""

import itertools

import numpy as np
import pytest

from metapers.analysis.slates import Slates
from metapers.bench.language import beside_policies, constructed_users, in_context_runs
from metapers.bench.language.constructed_users import Sizes
from metapers.bench.language.in_context import Texts
from metapers.bench.language.policies import Study
from metapers.core.population import SEEN
from metapers.data import constructed_rewards
from metapers.llm import tokenized
from metapers.llm.chat_tokens import ChatTokens
from metapers.training.meta_training import Training

REWARDS = {'length': constructed_rewards.length, 'lists': constructed_rewards.lists}
SIZES = Sizes(num_users=4, num_pairs=6, num_held_out=8, num_support=3, num_query=5, margin=0.2)
TASTES = ('short', 'long', 'lists', 'prose')


def texts_of(num_prompts, seed=0):
  """Replies of 20 to 60 letters, of which every other one is a list."""
  rng = np.random.default_rng(seed)

  def reply(number):
    words = ' '.join('abcde' for _ in range(rng.integers(4, 12)))
    return f'- {words}\n- more' if number % 2 else f'{words}, and more'

  responses = [[f'{reply(n)} {p}.{n}' for n in range(6)] for p in range(num_prompts)]
  return Texts(
    np.array([f'what {p} ?' for p in range(num_prompts)], object), np.array(responses, object)
  )


TEXTS = texts_of(24)


def slates_of(rows):
  raw = np.array(
    [[[f('', text) for f in REWARDS.values()] for text in own] for own in TEXTS.responses]
  )
  scores = ((raw - raw.mean((0, 1))) / raw.std((0, 1))).astype(np.float32)[rows]
  mask = np.ones(scores.shape[:2], bool)
  mask[0, 0] = False  # a reply that does not fit
  writers = np.broadcast_to(np.arange(6), mask.shape)
  return Slates(
    {'z': scores, 'raw': scores}, mask, writers, tuple('abcdef'), tuple(REWARDS), None,
    np.asarray(rows), False,
  )  # fmt: skip


TRAIN, TEST = slates_of(np.arange(12)), slates_of(np.arange(12, 24))


def made(**changed):
  return constructed_users.users(TRAIN, TEST, TEXTS, TASTES, SIZES._replace(**changed), seed=0)


@pytest.mark.parametrize('reward', REWARDS)
def test_pairs_are_those_that_differ_enough_and_in_nothing_else(reward):
  every = np.array([REWARDS[reward]('', text) for own in TEXTS.responses for text in own])
  found = constructed_users.comparable(TRAIN, reward, TEXTS, SIZES)
  expected = set()
  for prompt in range(12):
    for one, other in itertools.permutations(range(6), 2):
      if prompt == 0 and 0 in (one, other):
        continue
      both = [TEXTS.responses[prompt, n] for n in (one, other)]
      gap = (REWARDS[reward]('', both[0]) - REWARDS[reward]('', both[1])) / every.std()
      ratio = max(map(len, both)) / min(map(len, both))
      if gap >= SIZES.margin and (reward == 'length' or ratio <= SIZES.length_ratio):
        expected.add((prompt, one, other))
  assert set(zip(*map(tuple, found))) == expected and expected


def test_everybody_chooses_what_they_like():
  given = made()
  for one in given.train + given.evaluation:
    kind = given.kinds[one.user]
    more = {
      'long': len(one.chosen) > len(one.rejected),
      'short': len(one.chosen) < len(one.rejected),
      'lists': one.chosen.startswith('-') and not one.rejected.startswith('-'),
      'prose': one.rejected.startswith('-') and not one.chosen.startswith('-'),
    }
    assert more[kind]


def test_queries_are_of_prompts_that_nobody_trained_on():
  given = made()
  judged = tokenized.by_user(given.evaluation)

  def numbers(comparisons):
    return {int(one.turns[-1].text.split()[1]) for one in comparisons}

  assert max(numbers(given.train)) < 12
  for user, own in judged.items():
    support = 0 if user in given.known else SIZES.num_support
    assert len(own) == support + SIZES.num_query
    assert min(numbers(own[support:])) >= 12 and max(numbers(own[:support]), default=0) < 12


def test_validation_and_test_users_have_every_taste():
  given = made()
  divided = tokenized.divide(given, SIZES.num_support, SIZES.num_query)
  for split in (SEEN, 'validation', 'test'):
    assert sorted(given.kinds[user] for user in divided[split].users) == sorted(TASTES)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'num_pairs': 1000}, 'pairs of replies that fit differ enough in length, and a user compares'),
    ({'margin': 99.0}, '0 pairs of replies that fit'),
  ],
)
def test_too_few_pairs_are_said(change, message):
  with pytest.raises(ValueError, match=message):
    made(**change)


def test_unknown_tastes_and_rewards_are_said():
  with pytest.raises(ValueError, match='unknown taste loud; known: short'):
    constructed_users.users(TRAIN, TEST, TEXTS, ['loud'], SIZES, seed=0)
  with pytest.raises(ValueError, match="no reward 'formality', only length, lists"):
    constructed_users.users(TRAIN, TEST, TEXTS, ['formal'], SIZES, seed=0)


def featured(comparisons, size):
  of_reply = features()['surface']
  return beside_policies._featured(of_reply, comparisons, size)


def features():
  own, other = (constructed_users.features_of(each, TEXTS) for each in (TRAIN, TEST))
  return {kind: {**own[kind], **other[kind]} for kind in own}


@pytest.fixture(scope='module')
def study():
  splits = tokenized.splits_by(made(), featured, num_support=3, num_query=5)
  training = Training(num_steps=1, batch_size=1)
  return Study('s', splits, training, {}, None, (0, 3))


def shown(frame, split, metric='accuracy'):
  own = frame[(frame['split'] == split) & (frame['metric'] == metric)]
  return dict(zip(zip(own['learner'], own['shots']), map(float, own['value'])))


def test_a_model_of_surfaces_knows_who_likes_what(study):
  frame = beside_policies.surface_rows(study, made(), features())
  known, new = shown(frame, SEEN), shown(frame, 'test')
  assert known['gaussian_prior of surface', '6'] > 0.9
  assert new['gaussian_prior of surface', '3'] > 0.7
  assert known['gaussian_prior of writer', '6'] < 0.9  # every writer has replies of all lengths


class Words:
  """A tokenizer whose tokens are words."""

  all_special_ids, added_tokens_decoder, unk_token_id = (), {}, None

  def __init__(self):
    self.known = {}

  def __call__(self, text, **options):
    return {'input_ids': [self.known.setdefault(x, len(self.known)) for x in text.split()]}

  def text(self, tokens):
    words = list(self.known)
    return ' '.join(words[token] for token in tokens)


WORDS = Words()
CHAT = ChatTokens(WORDS, (), (), ())


def test_the_base_is_asked_with_what_is_liked_and_was_chosen(study):
  given = made()
  asked = list(beside_policies.questions(study, given, CHAT, most=1000))
  assert len(asked) == 3 * 5 * (4 + 4)
  zero, told, examples = (WORDS.text(one.asked.prompt) for one in asked[:3])
  first = tokenized.by_user(given.evaluation)['known 0: short'][0]
  assert zero == first.turns[-1].text
  assert told == f'I like short replies. {zero}'
  chosen = given.train[0].chosen
  assert ' '.join(chosen.split()) in examples and examples.endswith(zero)


def test_what_the_base_prefers_is_measured_alone_and_beside_nobody(study):
  given = made()
  answers = {
    one.cell.key: in_context_runs.Answer(log_probs(str(one.cell.row)), [1, 1], 1, one.num_dropped)
    for one in beside_policies.questions(study, given, CHAT, most=1000)
  }
  frame = beside_policies.prompted_rows(study, given, answers)
  assert frame.loc[frame['metric'] == 'num_dropped', 'value'].tolist() == [0]
  for split in (SEEN, 'test'):
    found = {name: value for (name, _), value in shown(frame, split).items()}
    assert found == pytest.approx({
      'zero_shot': 0, 'told': 0, 'told relative': 1, 'in context': 1, 'in context relative': 1,
    })  # fmt: skip


def log_probs(row):
  """Of the chosen and the rejected reply: told, the base comes nearer to the user."""
  by_row = {'zero_shot': [-9.0, -2.0], 'told': [-5.0, -4.0], 'in context': [-1.0, -2.0]}
  return by_row[row.split(maxsplit=1)[1]]

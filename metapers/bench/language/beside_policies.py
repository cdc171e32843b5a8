"""What a personalised policy must be better than: surfaces of replies, and a prompted base.

`surface_rows` are of `gaussian_prior` on numbers that anybody can count. `prompted` and
`prompted_rows` are of the base itself, told what a user likes, or shown what they chose.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench import results
from metapers.bench.language import policies
from metapers.bench.language.constructed_users import TASTES, Features
from metapers.bench.language.in_context_runs import Answer, Cell, Question
from metapers.bench.language.policies import Study
from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.task import Candidates, Choices
from metapers.evaluation import adaptation
from metapers.learners import gaussian_prior
from metapers.llm import in_context, tokenized
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.in_context import Example
from metapers.llm.likelihood import Asked
from metapers.llm.published import Comparison, Published
from metapers.llm.text_users import Split
from metapers.llm.tokenized import Divided

NUM_EXAMPLES = 3
ZERO, TOLD, SHOWN = 'zero_shot', 'told', 'in context'
# By how likely a reply is, or by how much likelier than for nobody, as a policy's score has it.
RELATIVE = ' relative'


def surface_rows(
  study: Study, published: Published, features: Mapping[str, Features]
) -> pd.DataFrame:
  """Returns the results of `gaussian_prior` on each kind of features, by name.

  Known users are adapted to all that they compared, new ones to their first comparisons.

  Args:
    study: the users.
    published: their comparisons as texts.
    features: kind -> (prompt, reply) -> numbers.
  """
  history = study.splits['train'].tasks.support.choice.shape[1]
  parts = []
  for kind, of_reply in features.items():
    splits = tokenized.splits_by(
      published,
      functools.partial(_featured, of_reply),
      num_support=max(study.shots),
      num_query=study.splits[SEEN].tasks.query.choice.shape[1],
    )
    known = splits[SEEN].tasks._replace(support=splits['train'].tasks.support)
    learner = gaussian_prior.gaussian_prior(len(next(iter(of_reply.values()))))
    key = jax.random.key(0)
    params = learner.prepare(learner.init(key), splits['train'].tasks, key)
    evaluate = functools.partial(adaptation.evaluate, learner, params, key=key)
    for split, tasks, shots in (
      (SEEN, known, (history,)),
      ('test', splits['test'].tasks, study.shots),
    ):
      found = evaluate(tasks, None, shots=shots)
      label = f'gaussian_prior of {kind}'
      parts.append(policies.frame_of(study, split, label, shots, Split(tasks), {0: found}))
  return results.join(parts)


def _featured(of_reply: Features, comparisons: Sequence[Comparison], size: int) -> Choices:
  width = len(next(iter(of_reply.values())))
  found = np.zeros((size, 2, width), np.float32)
  for n, one in enumerate(comparisons):
    asked = one.turns[-1].text
    found[n] = of_reply[asked, one.chosen], of_reply[asked, one.rejected]
  mask = jnp.arange(size) < len(comparisons)
  candidates = Candidates(jnp.asarray(found), jnp.repeat(mask[:, None], 2, 1))
  return task.choices(candidates, jnp.zeros(size, jnp.int32), mask)


def _divided(study: Study, published: Published) -> dict[str, Divided]:
  size = study.splits[SEEN].tasks.query.choice.shape[1]
  found = tokenized.divide(published, max(study.shots), size)
  return {split: found[split] for split in (SEEN, 'test')}


def questions(
  study: Study, published: Published, chat: ChatTokens, *, most: int
) -> Iterator[Question]:
  """Yields what a base is asked: each query of each user, as it is, told, and in context.

  Args:
    study: the users, whose tastes are known.
    published: their comparisons as texts.
    chat: the model's template.
    most: tokens of a prompt; the first examples are left out.

  Raises:
    ValueError: for a question that alone is longer.
  """
  for split, users in _divided(study, published).items():
    for number, name in enumerate(users.users):
      examples = [
        Example(one.turns[-1].text, one.chosen, one.rejected)
        for one in users.before[name][:NUM_EXAMPLES]
      ]
      for place, one in enumerate(users.asked[name]):
        asked = one.turns[-1].text
        shown = in_context.fitted(
          'both', examples, asked, lambda text: len(chat.prompt(text)), most=most
        )
        said = f'{TASTES[published.kinds[name]].words}\n\n{asked}'
        replies = [chat.response(text) for text in (one.chosen, one.rejected)]
        for row, text, dropped in (
          (ZERO, asked, 0),
          (TOLD, said, 0),
          (SHOWN, shown.text, shown.num_dropped),
        ):
          cell = Cell(f'{split} {row}', number, place)
          yield Question(cell, Asked(chat.prompt(text), replies), dropped)


def prompted_rows(
  study: Study, published: Published, answers: Mapping[str, Answer]
) -> pd.DataFrame:
  """Returns the results of the base, by `questions` and their answers.

  `num_dropped` is how many examples did not fit, in all questions together.
  """
  num_dropped = float(sum(answer.num_dropped for answer in answers.values()))
  parts = [policies.plain_rows(study, SHOWN, 0, {'num_dropped': num_dropped})]
  for split, users in _divided(study, published).items():
    shape = len(users.users), study.splits[split].tasks.query.choice.shape[1]
    scores = {row: _scores(f'{split} {row}', shape, users, answers) for row in (ZERO, TOLD, SHOWN)}
    relative = {row + RELATIVE: scores[row] - scores[ZERO] for row in (TOLD, SHOWN)}
    most = NUM_EXAMPLES if split == SEEN else min(NUM_EXAMPLES, max(study.shots))
    for label, found in (scores | relative).items():
      made = {0: policies.known_predictions(study.splits[split], jnp.asarray(found))}
      shots = (most if label.startswith(SHOWN) else 0,)
      parts.append(policies.frame_of(study, split, label, shots, study.splits[split], made))
  return results.join(parts)


def _scores(
  row: str, shape: tuple[int, int], users: Divided, answers: Mapping[str, Answer]
) -> np.ndarray:
  found = np.zeros((*shape, 2), np.float32)
  for number, name in enumerate(users.users):
    for place in range(len(users.asked[name])):
      found[number, place] = answers[Cell(row, number, place).key].log_probs
  return found

"""Answers that models write where they are shown examples, scored by the reward models of a store.

Answers are kept in a journal, and become a table whose rows are queries of users and whose
responses are the rows of the study. `experiments.extract` scores it as it scored the store; what a
user makes of an answer is their weights times its z-scores, by the statistics of the store.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench.language import in_context_runs, judging
from metapers.bench.language.in_context import ZERO, Row, Sizes, Study, Texts
from metapers.bench.language.judging import Duel
from metapers.core.tables import RewardTable
from metapers.core.types import Float, Params
from metapers.evaluation import bootstrap, estimates, intervals
from metapers.io import chat, responses
from metapers.io.responses import Wanted
from metapers.llm import generate, in_context, likelihood, prompting
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.decoder import Decoder
from metapers.llm.generate import Sampling

COLUMNS = (
  'row', 'metric', 'value', 'ci_low', 'ci_high', 'smallest_shown', 'num_users', 'num_queries',
  'prompt_tokens', 'completion_tokens', 'num_dropped', 'num_empty', 'num_cut', 'cost',
)  # fmt: skip
TIE = 1e-3  # sd of a reward: what rounding may change
POWER = 1.43  # of a half interval: differences so large are shown in 80 % of such samples
BESIDE_ZERO = 'reward_minus_zero_shot'
NUMBERS = ('value', 'ci_low', 'ci_high')


class Messages(NamedTuple):
  """What is asked: unique texts, and which of them each cell of the study has.

  texts: U messages. index: [rows, T, M]. num_dropped: [rows, T, M] examples that did not fit.
  """

  texts: Sequence[str]
  index: np.ndarray
  num_dropped: np.ndarray


def messages(
  study: Study,
  rows: Sequence[Row],
  texts: Texts,
  sizes: Sizes,
  num_tokens: Callable[[str], int],
  *,
  most: int,
) -> Messages:
  """Returns what each row shows for each query of each user; equal ones are asked once.

  Args:
    study: users and queries.
    rows: what is shown.
    texts: of the store.
    sizes: of the study.
    num_tokens: of a message.
    most: tokens of a message; the first examples are left out.

  Raises:
    ValueError: for a question that alone is longer, or a lookup without features.
  """
  shape = (len(rows), *study.queries.prompts.shape)
  index, dropped, known = np.zeros(shape, int), np.zeros(shape, int), {}
  for number, (row, examples) in enumerate(
    zip(rows, in_context_runs.shown_examples(study, rows, texts, sizes))
  ):
    for user, query in np.ndindex(shape[1:]):
      prompt = texts.prompts[study.test.rows[study.queries.prompts[user, query]]]
      shown = in_context.fitted(row.arm, examples(user, query), prompt, num_tokens, most=most)
      index[number, user, query] = known.setdefault(shown.text, len(known))
      dropped[number, user, query] = shown.num_dropped
  return Messages(list(known), index, dropped)


def write(
  model: Decoder,
  params: Params,
  chat_tokens: ChatTokens,
  asked: Sequence[str],
  journal: responses.Journal,
  *,
  name: str,
  num_tokens: int,
  sampling: Sampling = generate.GREEDY,
  batch_size: int = 8,
  seed: int = 0,
  ended: Callable[[], object] = lambda: None,
) -> None:
  """Writes every answer that the journal lacks, prompts of like lengths together.

  Args:
    model: decoder.
    params: of it.
    chat_tokens: its template.
    asked: messages.
    journal: what is there already, and where answers go, under `name`.
    name: of the model.
    num_tokens: of an answer, at most.
    sampling: how tokens are drawn; by default the likeliest are taken.
    batch_size: answers at once.
    seed: of sampling; an answer depends on those beside it where tokens are drawn.
    ended: is called after each answer.
  """
  tokens = [chat_tokens.prompt(text) for text in asked]
  missing = [row for row in range(len(asked)) if Wanted(row, name) not in journal.answers]
  generator = generate.generator(
    model, num_tokens=num_tokens, end_tokens=chat_tokens.end, sampling=sampling
  )
  missing.sort(key=lambda row: len(tokens[row]))
  for start in range(0, len(missing), batch_size):
    rows = missing[start : start + batch_size]
    filled = [*rows, *rows[-1:] * (batch_size - len(rows))]  # one shape for a length
    length = likelihood.rounded(len(tokens[rows[-1]]))
    padded, mask = prompting.padded([tokens[row] for row in filled], side='left', length=length)
    inputs = prompting.Inputs(model.embed(params, jnp.asarray(padded)), jnp.asarray(mask))
    found = generator(params, inputs, jax.random.fold_in(jax.random.key(seed), rows[0]))
    for place, row in enumerate(rows):
      own = np.asarray(found.tokens[place])[np.asarray(found.mask[place])].tolist()
      journal.add(Wanted(row, name), completion(chat_tokens, own, len(tokens[row]), name))
      ended()


def completion(
  chat_tokens: ChatTokens, tokens: Sequence[int], num_prompt: int, name: str
) -> chat.Completion:
  """Returns an answer of the own decoder as an endpoint would give it."""
  is_whole = bool(tokens) and tokens[-1] in chat_tokens.end
  text = chat_tokens.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()
  usage = {'prompt_tokens': num_prompt, 'completion_tokens': len(tokens)}
  return chat.Completion(text, 'stop' if is_whole else 'length', name, usage)


def is_cut(answer: chat.Completion) -> bool:
  """Returns whether an answer ends at the most tokens it may have, and not where it was done."""
  return answer.finish_reason == 'length'


def table(
  study: Study,
  rows: Sequence[Row],
  texts: Texts,
  asked: Messages,
  answers: Mapping[int, chat.Completion],
) -> pd.DataFrame:
  """Returns a row for each query of each user, whose responses are those of the rows in order.

  `experiments.extract` reads it. A failed or empty answer is '', and scores nothing.
  """
  users, queries = study.queries.prompts.shape
  prompts = study.test.rows[study.queries.prompts.reshape(-1)]
  columns: dict[str, Any] = {
    'prompt_id': [f'{user}.{query}' for user in range(users) for query in range(queries)],
    'prompt': texts.prompts[prompts],
  }
  for number, row in enumerate(rows):
    own = [answers.get(int(each)) for each in asked.index[number].reshape(-1)]
    columns[f'response_{number + 1}'] = ['' if one is None else one.text for one in own]
    columns[f'response_{number + 1}_model'] = [str(row)] * len(own)
  return pd.DataFrame(columns)


def check_scored(scored: RewardTable, store: RewardTable, made_by: Mapping[str, str]) -> None:
  """Refuses scores of other reward models, or of models that were run otherwise.

  Args:
    scored: of the answers.
    store: of the references.
    made_by: 'scored' and 'store' -> how each was made, as their manifests have it.

  Raises:
    ValueError: naming what differs.
  """
  missing = sorted(set(store.reward_models) - set(scored.reward_models))
  if missing:
    raise ValueError(f'the answers have no scores of {", ".join(missing)}: extract them alike')
  runs = {name: _run_of(text) for name, text in made_by.items()}
  for field in ('options', 'versions', *(f'model {name}' for name in store.reward_models)):
    here, there = (runs[name].get(field) for name in ('scored', 'store'))
    if there is not None and here != there:
      raise ValueError(
        f'the answers were scored otherwise than the store ({field}: {here} for {there}); extract '
        'them by the config that made the store, so that scores can be compared'
      )


def check_answers(scored: Texts, expected: pd.DataFrame) -> None:
  """Refuses scores of other answers than those of this run.

  Args:
    scored: texts that were scored.
    expected: `table` of this run.

  Raises:
    ValueError: naming the first row that differs.
  """
  answers = [name for name in map(str, expected) if re.fullmatch(r'response_\d+', name)]
  here = expected[['prompt', *answers]].to_numpy().tolist()
  there = [[prompt, *own] for prompt, own in zip(scored.prompts, scored.responses)]
  for row, pair in enumerate(itertools.zip_longest(there, here, fillvalue=())):
    for other, own in itertools.zip_longest(*pair):
      if other != own:
        raise ValueError(
          f'the scores are of other answers: row {row} of their store has {str(other)[:60]!r}, and '
          f'this run {str(own)[:60]!r}; write answers.parquet without --scored, and extract it anew'
        )


def _run_of(made_by: str) -> dict[str, Any]:
  _, brace, rest = made_by.partition('{')
  try:
    run = json.loads(brace + rest) if brace else {}
  except ValueError:
    return {}
  models = run.pop('models', {})  # of stores made since these are kept
  return run | {f'model {name}': spec for name, spec in models.items()}


def rewards(
  study: Study, scored: RewardTable, store: RewardTable, num_rows: int
) -> Float[np.ndarray, 'rows T M']:
  """Returns what each user makes of each answer, w·z by the store's means and sds; NaN for none.

  Args:
    study: users and queries.
    scored: of the answers, as `table` has them.
    store: of the references.
    num_rows: of the study.

  Raises:
    ValueError: for scores of another table.
  """
  users, queries = study.queries.prompts.shape
  if scored.rewards.shape[:2] != (users * queries, num_rows):
    raise ValueError(
      f'scores are of {scored.rewards.shape[:2]} prompts and responses, and not of the '
      f'{users * queries} queries and {num_rows} rows of this study; extract answers.parquet anew'
    )
  order = [scored.reward_models.index(name) for name in study.test.reward_models]
  raw = np.asarray(scored.rewards, np.float64)[..., order]
  z = (raw - store.mean) / store.std  # [T M, rows, B]
  weights = np.repeat(study.weights, queries, 0)
  found = np.einsum('nrb,nb->rn', z, weights)
  return found.reshape(num_rows, users, queries)


class Prices(NamedTuple):
  """Of a million tokens."""

  prompt: float = 0.0
  completion: float = 0.0


def measured(
  study: Study,
  rows: Sequence[Row],
  found: Float[np.ndarray, 'rows T M'],
  against: Mapping[str, Float[np.ndarray, 'T M']],
  costs: Sequence[Mapping[str, int | float]],
  *,
  num_resamples: int = 1000,
) -> pd.DataFrame:
  """Returns the mean reward of each row, and wins, ties and losses, with two-way intervals.

  Queries that any row has no answer to are left out for all, so that differences are paired.
  `smallest_shown` of a difference is what four of five such samples would show.

  Args:
    study: users and queries.
    rows: of the study.
    found: rewards of their answers.
    against: name -> rewards of a rival.
    costs: of each row, columns of the result.
    num_resamples: of the bootstrap.

  Raises:
    ValueError: where all rows have answers of fewer than two users.
  """
  prompts = study.queries.prompts
  there: np.ndarray = np.logical_and.reduce(~np.isnan(found))
  lines = []
  for number, row in enumerate(rows):
    told = {'row': str(row), **costs[number]}
    own = np.where(there, found[number], 0)
    tables = {'reward': (own, there)}
    if row != ZERO and ZERO in rows:
      zero = np.where(there, found[rows.index(ZERO)], 0)
      tables[BESIDE_ZERO] = (own - zero, there)
    for name, rival in against.items():
      both = there & ~np.isnan(rival)
      tables[f'reward_minus_{name}'] = (np.where(both, own - np.where(both, rival, 0), 0), both)
      lines += [told | line for line in win_lines(own, rival, both, prompts, name, num_resamples)]
    for metric, (values, counted) in tables.items():
      lines.append(told | interval_line(metric, values, counted, prompts, num_resamples))
  return pd.DataFrame(lines, columns=list(COLUMNS))


def interval_line(
  metric: str, values: np.ndarray, counted: np.ndarray, prompts: np.ndarray, num_resamples: int
) -> dict[str, Any]:
  """Returns a mean over users with its interval, and the smallest difference that is shown."""
  users = np.flatnonzero(counted.any(1))
  if len(users) < 2:
    raise ValueError(f'{metric}: an interval needs answers of at least 2 users, got {len(users)}')
  values, counted, prompts = values[users], counted[users], prompts[users]
  draws = bootstrap.draw(len(users), prompts, num_resamples=num_resamples, seed=0)
  weights = bootstrap.weights(draws, counted.astype(float), prompts)
  samples = estimates.weigh(weights, (values * counted)[None, None], [metric])[0]
  sizes = {'num_users': len(users), 'num_prompts': np.unique(prompts[counted]).size}
  value, low, high = intervals.interval(samples, **sizes)[:, 0].tolist()
  line = dict(zip(NUMBERS, (value, low, high))) | {'metric': metric}
  line |= {'num_users': len(users), 'num_queries': int(counted.sum())}
  return line | ({'smallest_shown': POWER * (high - low) / 2} if '_minus_' in metric else {})


def win_lines(
  own: np.ndarray,
  rival: np.ndarray,
  there: np.ndarray,
  prompts: np.ndarray,
  name: str,
  num_resamples: int,
) -> Iterable[dict[str, Any]]:
  """Yields the shares of wins, ties and losses against a rival."""
  cells = np.argwhere(there)
  duels = [Duel(str(user), str(prompts[user, query]), '', '', '') for user, query in cells]
  verdicts = judging.by_score(own[there], rival[there], gap=TIE)
  frame = judging.shares(duels, verdicts, num_resamples=num_resamples)
  for line in frame.to_dict('records'):
    if line['metric'] in (judging.WIN, judging.EVEN, judging.LOSS):
      yield {field: line[field] for field in (*NUMBERS, 'num_users')} | {
        'metric': f'{line["metric"]}_against_{name}',
        'num_queries': len(duels),
      }


def costs_of(
  rows: Sequence[Row], asked: Messages, answers: Mapping[int, chat.Completion], prices: Prices
) -> list[dict[str, int | float]]:
  """Returns the tokens and the cost of each row, as if each of its answers had been paid for.

  An answer that was asked for once for several cells counts in each row that has it, once.
  """
  found = []
  for number in range(len(rows)):
    own = [answers.get(int(each)) for each in np.unique(asked.index[number])]
    usage = judging.usage_of(own)
    tokens = {name: usage.get(name, 0) for name in ('prompt_tokens', 'completion_tokens')}
    cost = tokens['prompt_tokens'] * prices.prompt + tokens['completion_tokens'] * prices.completion
    empty = sum(one is None or not one.text.strip() for one in own)
    found.append(
      tokens
      | {
        'cost': cost / 1e6,
        'num_dropped': int(asked.num_dropped[number].sum()),
        'num_empty': empty,
        'num_cut': sum(one is not None and is_cut(one) for one in own),
      }
    )
  return found


def in_words(frame: pd.DataFrame, against: Sequence[str]) -> list[str]:
  """Returns a table for people: rewards, the difference to zero shot, wins / ties / losses."""
  width = max(map(len, frame['row']))
  lines = [
    f'{"row":{width}}  reward          over zero shot (smallest shown)'
    + ''.join(f'  % won/tied/lost against {name}' for name in against)
  ]
  for name, own in frame.groupby('row', sort=False):
    shown = {line['metric']: line for line in own.to_dict('records')}
    cells = [_shown(shown, 'reward'), _shown(shown, BESIDE_ZERO)]
    if BESIDE_ZERO in shown:
      cells[1] += f' ({shown[BESIDE_ZERO]["smallest_shown"]:.3f})'
    for rival in against:
      shares = [shown[f'{m}_against_{rival}']['value'] for m in ('win', 'tie', 'loss')]
      cells.append(' / '.join(f'{100 * share:.1f}' for share in shares))
    lines.append('  '.join([f'{name:{width}}', *(f'{cell:>22}' for cell in cells)]))
  return lines


def _shown(lines: Mapping[Any, Mapping[Any, Any]], metric: str) -> str:
  if metric not in lines:
    return ''
  value, low, high = (lines[metric][name] for name in NUMBERS)
  return f'{value:.3f} ± {(high - low) / 2:.3f}'

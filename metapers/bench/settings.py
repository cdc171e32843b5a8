"""A setting: a condition with its users drawn, on whom every learner is evaluated alike."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metapers.bench import acquainted, resampling
from metapers.bench import plan as plans
from metapers.bench.plan import Condition, Evaluation, Plan, Stream
from metapers.bench.resampling import Resampled
from metapers.core import programs
from metapers.core.population import (
  SEEN,
  HostOrDevice,
  Population,
  Simulation,
  Spec,
  episode_shapes,
)
from metapers.core.task import Task, Truth
from metapers.core.types import Bool, Int
from metapers.evaluation import adaptation, estimates, intervals, streams

# Options that titles tell in words.
IN_TITLES = (
  'split', 'change_at', 'window', 'concentration', 'pair_rule', 'label_accuracy', 'flip_rate',
  'track', 'support_prompts', 'excluded_model',
)  # fmt: skip
TRAINED = ('train_shots', 'train_steps')
FEW = 20  # users: below, an interval is so wide that it is said beforehand


class Setting(NamedTuple):
  """One condition, ready to be evaluated.

  name: short, for file names. title: for people. labels: columns of the results.
  trained: row -> how it was trained, as columns of the results (`TRAINED`).
  populations: one for each fold of people, else one; sizes: evaluated users of each.
  tasks, truth, evaluated: of all of them, joined along T.
  resampled: what intervals are for, beside new people.
  note: what is not evaluated, and why, and who has fewer comparisons; '' for nothing.
  fingerprint: hash of all that is shown and known of the users; cells of other users are others.
  """

  name: str
  title: str
  labels: Mapping[str, Any]
  shots: tuple[int, ...]
  populations: tuple[Population, ...]
  sizes: tuple[int, ...]
  tasks: Task
  truth: Truth | None
  evaluated: estimates.EvaluationSet
  trained: Mapping[str, Mapping[str, str]]
  split: str = 'test'
  stream: Stream | None = None
  resampled: Resampled = Resampled()
  note: str = ''
  fingerprint: str = ''

  @property
  def prompt_split(self) -> str:
    """The split whose prompts users are evaluated on: known users' are those of the test."""
    return 'test' if self.split == SEEN else self.split


def make_setting(plan: Plan, condition: Condition) -> Setting:
  """Returns a condition of a table with the users of its split drawn.

  Raises:
    ValueError: for more shots than histories hold, users that there are not, people who are trained
      on, or a single user to evaluate or to learn from.
  """
  populations = tuple(make() for make in condition.populations)
  first, split, evaluation = populations[0], condition.split, plan.evaluation
  plans.check_options(evaluation, first.spec)
  acquainted.check(plan, condition, populations)
  sizes = tuple(min(evaluation.num_users, held_out(each, split)) for each in populations)
  episodes = [
    adaptation.episodes(population, split=split, num_users=size)
    for population, size in zip(populations, sizes, strict=True)
  ]
  tasks, truth = jax.tree.map(lambda *parts: jnp.concatenate(parts), *episodes)
  check_evaluated(condition, sum(sizes), int(tasks.query.mask.sum()))
  if not any(condition is other for other in plan.conditions[1:]) or condition.entries:
    check_learned_from(plan, condition)
  if condition.stream:
    tasks, truth = stream_of(tasks, truth, condition.stream, first.simulation)
  writers = writers_of(first.simulation, truth)
  rival = rival_of(evaluation.rival, writers)
  shots = shots_of(evaluation, first.spec)
  notes = rival_note(evaluation.rival, writers), fewer_note(tasks.support.mask, shots)
  resampled = resampling.of_populations(populations, split, sizes)
  return Setting(
    name=condition.name,
    title=title_of(first, sum(sizes), split, condition.stream) + changes_in_words(condition),
    labels=labels_of(first, condition, plan.protocol),
    shots=shots,
    populations=populations,
    sizes=sizes,
    tasks=tasks,
    truth=truth,
    evaluated=estimates.evaluation_set(
      tasks,
      truth,
      rival=rival,
      items=resampled.ids,
      owners=owners_of(tasks, condition.stream),
      num_resamples=evaluation.num_resamples,
    ),
    trained=trained(plan, condition),
    split=split,
    stream=condition.stream,
    fingerprint=fingerprint(tasks, truth, condition.stream),
    resampled=resampled,
    note='; '.join(filter(None, notes)),
  )


def owners_of(tasks: Task, stream: Stream | None) -> Int[np.ndarray, 'T N'] | None:
  """Returns whose turn each of a stream is; None where each episode is of its own user."""
  if stream is None:
    return None
  num_users, num_turns = tasks.query.mask.shape
  return streams.owners(num_users, num_turns, stream.change_at)


def fingerprint(tasks: Task, truth: Truth | None, stream: Stream | None) -> str:
  """Returns a hash of all that is shown and known of users, whoever made them."""
  digest = hashlib.sha256(str(stream).encode())
  for leaf in jax.tree.leaves((tasks, truth)):
    digest.update(programs.content(leaf))
  return digest.hexdigest()


def shots_of(evaluation: Evaluation, spec: Spec) -> tuple[int, ...]:
  """Returns the numbers of shots of a setting, and says which are left out."""
  kept = plans.held_shots(evaluation, spec)
  if left := [str(count) for count in evaluation.shots if count not in kept]:
    logging.warning(
      'shots %s are left out: histories leave %d comparisons to adapt to, at most (num_support); '
      'of people min_query=N leaves more of them, and fewer to evaluate',
      ', '.join(left), spec.num_support,
    )  # fmt: skip
  return kept


def check_evaluated(condition: Condition, num_users: int, num_comparisons: int) -> None:
  """Warns of few users to evaluate, and refuses one.

  Raises:
    ValueError: saying what is needed.
  """
  which = f'{condition.name}: {num_users} users of split {condition.split!r}'
  if num_users == 1:
    raise ValueError(
      f'{which} to evaluate, and an interval needs two: give more people or fewer folds '
      '(num_folds), or raise evaluation.num_users or num_held_out'
    )
  if num_users < FEW:
    width = 98 / np.sqrt(max(num_comparisons, 1))
    logging.warning('%s: an accuracy over them is known to ± %.1f points at best', which, width)


def check_learned_from(plan: Plan, condition: Condition) -> None:
  """Warns of few users that learners of a condition are trained on or chosen by, and refuses one.

  Raises:
    ValueError: saying what is needed.
  """
  entries = plans.entries_of(plan, condition).values()
  specs = [make().spec for entry in entries for make in entry.populations]
  pools = [spec.num_users for spec in specs if spec.num_users]  # streams have no end
  most = plan.evaluation.num_validation_users
  sizes = [min(most, spec.num_held_out['validation']) for spec in specs]
  num_users = min(pools, default=FEW)
  if num_users == 1:
    raise ValueError(
      'a single user to learn from, and what users share needs two at least: give more people, '
      'raise num_users, or change num_folds or validation_share'
    )
  for size, what in ((num_users, 'learn from'), (min(sizes, default=FEW), 'choose parameters by')):
    if size < FEW:
      logging.warning(
        '%d users to %s: a mean over them is known to ± %.2f of what single ones differ by (sd)',
        size, what, intervals.NORMAL / np.sqrt(size),
      )  # fmt: skip


def trained(plan: Plan, condition: Condition) -> dict[str, dict[str, str]]:
  """Returns the numbers of steps and of comparisons that each row is trained on, as labels."""
  found = {}
  for row, entry in plans.entries_of(plan, condition).items():
    most = episode_shapes(entry.populations[0](), 'train').support.mask.shape[-1]
    shots = entry.training.shots
    kept = f'0-{most}' if shots == 'uniform' else str(shots)
    found[row] = {'train_shots': kept, 'train_steps': str(entry.training.num_steps)}
  return found


def stream_of(
  tasks: Task, truth: Truth | None, stream: Stream, simulation: Simulation | None
) -> tuple[Task, Truth]:
  """Returns the supports as streams.

  Raises:
    ValueError: for real people, or supports of prompts that were trained on.
  """
  if truth is None or simulation is None or simulation.support_prompts != 'held_out':
    given = 'real people' if simulation is None else repr(simulation.support_prompts)
    raise ValueError(
      'every turn of a stream is evaluated: it needs simulated users with '
      f"support_prompts='held_out', got {given}"
    )
  return streams.as_stream(tasks, truth, stream.change_at)


def held_out(population: Population, split: str) -> int:
  """Returns how many users of a split can be evaluated.

  Raises:
    ValueError: for a split of which there are none.
  """
  known = population.spec.num_held_out
  if split not in known:
    raise ValueError(
      f'no users of split {split!r} here; there are {", ".join(known)}, and with a finite pool '
      f'(num_users) {SEEN}'
    )
  return known[split]


def writers_of(simulation: Simulation | None, truth: Truth | None) -> Sequence[str]:
  """Returns the names of the response models of the slates to pick from; () without slates."""
  if simulation is None or truth is None or truth.slate_prompts.shape[1] == 0:
    return ()
  return simulation.response_models


def rival_of(wanted: str | None, writers: Sequence[str]) -> int | None:
  """Returns the index of the response model that picks are compared with; None without slates.

  Raises:
    ValueError: for a model that wrote none of the responses.
  """
  if not writers or wanted == '':
    return None
  if wanted is None:
    return writers.index(plans.RIVAL) if plans.RIVAL in writers else None
  if wanted not in writers:
    raise ValueError(
      f"evaluation.rival={wanted!r} wrote no response; give one of {', '.join(writers)}, or '' for "
      'no win rates'
    )
  return writers.index(wanted)


def rival_note(wanted: str | None, writers: Sequence[str]) -> str:
  """Returns why there are no win rates where no rival was named; '' without slates."""
  if wanted is not None or not writers or plans.RIVAL in writers:
    return ''
  return (
    f'no win rates: {plans.RIVAL} wrote none of the responses; evaluation.rival may be one of '
    f'{", ".join(writers)}'
  )


def fewer_note(held: Bool[HostOrDevice, 'T N'], shots: Sequence[int]) -> str:
  """Returns how many users have as many comparisons to give as the columns say; '' where all."""
  of_each = np.asarray(held).sum(-1)
  told = [f'{(of_each >= count).sum():,} have {count}' for count in shots if of_each.min() < count]
  if not told:
    return ''
  return f'of {len(of_each):,} users {", ".join(told)} to give; the others give all that they have'


def labels_of(population: Population, condition: Condition, protocol: str) -> dict[str, Any]:
  """Returns the columns of the results that a setting fixes.

  Changes of options that have no column of their own stand behind the protocol's name.
  """
  known = {'split': condition.split}
  if population.simulation is not None:
    known |= columns_of(population.simulation)
  others = [f'{name}={value}' for name, value in condition.changes.items() if name not in known]
  return {'protocol': ' '.join([protocol, *others]), 'population': population.source, **known}


def columns_of(simulation: Simulation) -> dict[str, str]:
  """Returns the columns of the results that facts of a simulation fill."""
  models = simulation.user_models
  columns = {
    'track': 'scores' if simulation.has_score_features else 'features',
    'normalization': simulation.normalization,
    'pair_rule': '+'.join(dict.fromkeys(simulation.pair_rules)),
  }
  if models:
    columns['concentration'] = values_in_words(model.concentration for model in models)
    columns['temperature'] = values_in_words(model.temperature for model in models)
  return columns


def values_in_words(values: Iterable[float]) -> str:
  """Returns numbers in short, each once, with plus signs between them."""
  return '+'.join(dict.fromkeys(f'{value:.3g}' for value in values))


def title_of(
  population: Population, num_users: int, split: str = 'test', stream: Stream | None = None
) -> str:
  """Returns a line that describes the users of a setting."""
  simulation = population.simulation
  if simulation is None or not simulation.user_models:
    return f'{population.source}, {num_users} {population.record.get("evaluated_on", "users")}'
  alphas = values_in_words(model.concentration for model in simulation.user_models)
  is_apart = stream is None and simulation.support_prompts == 'held_out'
  return (
    f'{num_users} {"seen" if split == SEEN else "unseen"} users (α = {alphas}), '
    f'unseen prompts, {"+".join(simulation.pair_rules)} pairs, '
    f'{labels_in_words(simulation)}'
    f'{"scores" if simulation.has_score_features else "features"} track'
    + (', raw rewards' if simulation.normalization == 'raw' else '')
    + (', support from unseen prompts too' if is_apart else '')
    + (f', {simulation.excluded_model} new to them' if simulation.excluded_model else '')
    + stream_in_words(stream)
  )


def changes_in_words(condition: Condition) -> str:
  """Returns the changes of a condition that a title says nothing of otherwise."""
  others = {name: value for name, value in condition.changes.items() if name not in IN_TITLES}
  return ''.join(f', {name} {value}' for name, value in others.items())


def labels_in_words(simulation: Simulation) -> str:
  """Returns how often labels are right, in percent; where that is not known, how they are drawn."""
  accuracies, models = simulation.label_accuracies, simulation.user_models
  if not accuracies:
    temperature = values_in_words(model.temperature for model in models)
    flip_rate = values_in_words(model.flip_rate for model in models)
    return f'temperature {temperature}, flip rate {flip_rate}, '
  if set(accuracies) == {1.0}:
    return 'noiseless, '
  shares = dict.fromkeys(f'{share:.0%}' for share in accuracies)
  return f'{", ".join(shares)} of labels right, '


def stream_in_words(stream: Stream | None) -> str:
  """Returns what a title says of a stream."""
  if stream is None:
    return ''
  memory = f', the last {stream.window} remembered' if stream.window else ''
  change = (
    f'preferences change after {stream.change_at}' if stream.change_at else 'constant preferences'
  )
  return f', turn by turn, {change}{memory}'

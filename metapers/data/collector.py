"""Collects people's comparisons of texts as tables, and counts what is left out, by reason."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from metapers.data import frames, rendering
from metapers.data.rendering import Turn


class PeopleTables(NamedTuple):
  """items: item_id, context, text. comparisons: user_id, chosen, rejected, context, order,
  conversation, turn.

  source, licence: one line each. left_out: reason -> number of comparisons not made.
  """

  items: pd.DataFrame
  comparisons: pd.DataFrame
  source: str
  licence: str
  left_out: dict[str, int]


class Place(NamedTuple):
  """The person and the conversation of a comparison, and its turn, counted from 0."""

  user: Any
  conversation: Any
  turn: int


class Collector:
  """Items and comparisons collected so far."""

  def __init__(self):
    self.items: dict[tuple[str, str], int] = {}
    self.rows: dict[tuple[str, str, int, int, int], dict[str, Any]] = {}
    self.left_out: Counter = Counter()
    self._orders: Counter = Counter()
    self._owners: dict[str, str] = {}

  def compare(self, place: Place, history: Sequence[Turn], chosen: str, rejected: str) -> None:
    """Adds one comparison, or counts the reason why it is left out.

    Args:
      place: whose it is.
      history: the conversation before both texts; its first turn becomes the context.
      chosen: text of the preferred response.
      rejected: text of the other one.
    """
    user, conversation = frames.id_of(place.user), frames.id_of(place.conversation)
    if user is None or conversation is None:
      self.left_out['no person or no conversation'] += 1
      return
    texts = rendering.clean(chosen), rendering.clean(rejected)
    if self._owners.setdefault(conversation, user) != user:
      self.left_out['conversation of another person'] += 1
    elif not all((*texts, *(rendering.clean(turn.text) for turn in history))):
      self.left_out['empty text'] += 1
    elif texts[0] == texts[1]:
      self.left_out['same text'] += 1
    else:
      context = rendering.clean(history[0].text)
      first, second = (
        self.items.setdefault((context, rendering.render(history, text)), len(self.items))
        for text in texts
      )
      self._add(user, conversation, place.turn, (first, second), context)

  def _add(
    self, user: str, conversation: str, turn: int, pair: tuple[int, int], context: str
  ) -> None:
    key = (user, conversation, turn, *pair)
    if key in self.rows:
      self.left_out['repeated pair'] += 1
      return
    self.rows[key] = {
      'user_id': user,
      'chosen': pair[0],
      'rejected': pair[1],
      'context': context,
      'order': self._orders[user],
      'conversation': conversation,
      'turn': turn,
    }
    self._orders[user] += 1

  def tables(self, source: str, licence: str) -> PeopleTables:
    """Returns what was collected.

    Raises:
      ValueError: without any comparison, or for a form of texts that reveals the choice.
    """
    if not self.rows:
      raise ValueError(f'{source} holds no comparison; left out: {dict(self.left_out)}')
    contexts, texts = zip(*self.items)
    items = pd.DataFrame({'item_id': range(len(texts)), 'context': contexts, 'text': texts})
    comparisons = pd.DataFrame(list(self.rows.values()))
    rendering.check_cues(items, comparisons)
    return PeopleTables(items, comparisons, source, licence, dict(self.left_out))

"""Conversations as tokens, by a tokenizer's chat template, safe against what people write."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

# Stands for a text while the template is rendered. Templates strip texts, but leave letters alone.
PLACE = 'PLACEOFATEXT'


class ChatTokens(NamedTuple):
  """The fixed tokens of a template around one user's turn and the answer to it.

  tokenizer: of transformers. before, after: around the user's text; `after` ends where an answer
  begins. end: what ends an answer.
  """

  tokenizer: Any
  before: tuple[int, ...]
  after: tuple[int, ...]
  end: tuple[int, ...]

  def prompt(self, text: str) -> list[int]:
    """Returns the tokens of a user's turn, up to where the answer begins."""
    return [*self.before, *plain(self.tokenizer, text), *self.after]

  def plain(self, text: str) -> list[int]:
    """Returns the tokens of a text alone."""
    return plain(self.tokenizer, text)

  def response(self, text: str) -> list[int]:
    """Returns the tokens of an answer, with what ends it."""
    return [*plain(self.tokenizer, text), *self.end]


def plain(tokenizer: Any, text: str) -> list[int]:
  """Returns the tokens of a text in which nothing is a marker, whatever people write in it."""
  found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
  forged = sorted(set(found) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
  if forged:
    raise ValueError(
      f'this tokenizer reads markers {tokenizer.convert_ids_to_tokens(forged)} in a text '
      f'({text[:40]!r}...), so that people could forge turns; use a fast tokenizer'
    )
  return found


def of(tokenizer: Any, vocab_size: int | None = None) -> ChatTokens:
  """Returns the fixed tokens of a tokenizer's chat template.

  Args:
    tokenizer: of transformers.
    vocab_size: of the model that reads the tokens; None does not check that they are of one kind.

  Raises:
    ValueError: for a tokenizer without a template, one that does not keep texts as they are, or one
      with tokens that the model does not have.
  """
  check_vocabulary(tokenizer, vocab_size)
  before, after = fixed(tokenizer, ['user'])
  *_, ending = fixed(tokenizer, ['user', 'assistant'], is_answered=True)
  # Llama 2's template has a space before the marker.
  markers = [token for token in ending if token in tokenizer.all_special_ids]
  end = (*markers, *ending, tokenizer.eos_token_id)[:1]
  return ChatTokens(tokenizer, tuple(before), tuple(after), end)


def check_vocabulary(tokenizer: Any, vocab_size: int | None) -> None:
  """Refuses a tokenizer with tokens that a model does not have: it would read others for them.

  Raises:
    ValueError: naming both sizes.
  """
  largest = max(tokenizer.get_vocab().values(), default=-1)
  if vocab_size is not None and largest >= vocab_size:
    raise ValueError(
      f'the tokenizer has tokens up to number {largest}, and the model {vocab_size} of them: they '
      'are not of one model; put the tokenizer of the model into its folder'
    )


def conversation(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> list[int]:
  """Returns the tokens of turns up to where an answer begins.

  Args:
    tokenizer: of transformers.
    turns: (role, text) each.

  Raises:
    ValueError: as `of` and `plain`.
  """
  around = fixed(tokenizer, [role for role, _ in turns])
  said = [plain(tokenizer, text) for _, text in turns]
  return [token for one in itertools.zip_longest(around, said, fillvalue=[]) for part in one
          for token in part]  # fmt: skip


def fixed(tokenizer: Any, roles: Sequence[str], *, is_answered: bool = False) -> list[list[int]]:
  """Returns the template's tokens before, between and after the texts of turns.

  Args:
    tokenizer: of transformers.
    roles: of the turns.
    is_answered: the last turn is the answer; else what comes after the turns begins one.

  Raises:
    ValueError: for a tokenizer without a template, or one that does not keep texts as they are.
  """
  if not tokenizer.chat_template:
    raise ValueError(
      'this tokenizer has no chat template; use an instruction-tuned model, or set '
      'tokenizer.chat_template'
    )
  rendered = tokenizer.apply_chat_template(
    [{'role': role, 'content': PLACE} for role in roles],
    tokenize=False,
    add_generation_prompt=not is_answered,
  )
  parts = rendered.split(PLACE)
  if len(parts) != len(roles) + 1:
    raise ValueError('this chat template changes or repeats what people write; it cannot be used')
  return [tokenizer(part, add_special_tokens=False)['input_ids'] if part else [] for part in parts]

"""Conversations as tokens, by a tokenizer's chat template, safe against what people write."""

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


def of(tokenizer: Any) -> ChatTokens:
  """Returns the fixed tokens of a tokenizer's chat template.

  Raises:
    ValueError: for a tokenizer without a template, or one that does not keep texts as they are.
  """
  if not tokenizer.chat_template:
    raise ValueError(
      'this tokenizer has no chat template; use an instruction-tuned model, or set '
      'tokenizer.chat_template'
    )
  user = [{'role': 'user', 'content': PLACE}]
  asked = tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
  answered = tokenizer.apply_chat_template(
    [*user, {'role': 'assistant', 'content': PLACE}], tokenize=False
  )
  if asked.count(PLACE) != 1 or answered.count(PLACE) != 2:
    raise ValueError('this chat template changes or repeats what people write; it cannot be used')
  before, after = asked.split(PLACE)
  ending = answered.split(PLACE)[2]
  marked = (tuple(_marked(tokenizer, text)) for text in (before, after, ending))
  before_tokens, after_tokens, end = marked
  return ChatTokens(tokenizer, before_tokens, after_tokens, end[:1] or (tokenizer.eos_token_id,))


def _marked(tokenizer: Any, text: str) -> list[int]:
  return tokenizer(text, add_special_tokens=False)['input_ids'] if text else []

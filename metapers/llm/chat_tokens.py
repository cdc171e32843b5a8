"""Conversations as tokens, by a tokenizer's chat template, safe against what people write."""

import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from metapers.core import fields, files
from metapers.data import rendering

GENERATION = 'generation_config.json'
ENDS = 'eos_token_id'  # one, or a list of them
# Stands for a text while the template is rendered. Templates strip texts, but leave letters alone.
PLACE = 'PLACEOFATEXT'
CHANGES = 'this chat template changes or repeats what people write; it cannot be used'
TAG = re.compile(r'<[^<>\s]+>|\[[^\[\]\s]+\]')  # such as [INST] and <|assistant|>


class ChatTokens(NamedTuple):
  """The fixed tokens of a template around one user's turn and the answer to it.

  tokenizer: of transformers. before, after: around the user's text; `after` ends where an answer
  begins. end: any of these ends an answer that is written; the first one, the template's own, those
  that are read. around: `before` and `after` as texts; without them a user's text is read alone.
  lead: the text of a turn and what stands before its answer.
  """

  tokenizer: Any
  before: tuple[int, ...]
  after: tuple[int, ...]
  end: tuple[int, ...]
  around: tuple[str, ...] = ()
  lead: str = ''

  def prompt(self, text: str) -> list[int]:
    """Returns the tokens of a user's turn, up to where the answer begins."""
    said = shown(self.tokenizer, ['user'], [text]) if self.around else [text]
    return joined(self.tokenizer, self.around, (self.before, self.after), said)

  def plain(self, text: str) -> list[int]:
    """Returns the tokens of a text alone."""
    return plain(self.tokenizer, text)

  def response(self, text: str) -> list[int]:
    """Returns the tokens of an answer behind a turn, with what ends it."""
    if self.around:
      _, text = shown(self.tokenizer, ['user', 'assistant'], [PLACE, text], is_answered=True)
    return [*reply(self.tokenizer, self.lead, text), *self.end[:1]]


def plain(tokenizer: Any, text: str) -> list[int]:
  """Returns the tokens of a text in which nothing is a marker, whatever people write in it."""
  found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
  forged = sorted(set(markers(tokenizer, found)))
  if forged:
    raise ValueError(
      f'this tokenizer reads markers {tokenizer.convert_ids_to_tokens(forged)} in a text '
      f'({text[:40]!r}...), so that people could forge turns; use a fast tokenizer'
    )
  return found


def markers(tokenizer: Any, tokens: Sequence[int]) -> list[int]:
  """Returns those of some tokens that are markers."""
  added = tokenizer.added_tokens_decoder.items()  # Llama 3's headers are among these alone
  special = {*tokenizer.all_special_ids, *(token for token, one in added if one.special)}
  special.discard(tokenizer.unk_token_id)
  return [token for token in tokens if token in special]


def joined(
  tokenizer: Any,
  around: Sequence[str],
  fixed_tokens: Sequence[Sequence[int]],
  texts: Sequence[str],
) -> list[int]:
  """Returns the tokens of texts between those of a template, as the tokenizer reads the whole.

  A text alone may have other tokens: tokenizers of sentence pieces put a space before its first
  word. Where a text holds markers each is still read alone, lest somebody forges turns; tags of the
  template that are no markers are letters in any text, which is refused.

  Args:
    tokenizer: of transformers.
    around: the template's texts before, between and after the texts; none reads texts alone.
    fixed_tokens: the tokens of each of them alone.
    texts: what people write.

  Raises:
    ValueError: as `plain`, or for a text that holds a tag of the template.
  """
  if around:
    refuse_tags(tokenizer, around, texts)
    whole = ''.join(_alternating(around, texts, ''))
    found = tokenizer(whole, add_special_tokens=False)['input_ids']
    if markers(tokenizer, found) == markers(tokenizer, [*itertools.chain(*fixed_tokens)]):
      return found
  said = [plain(tokenizer, text) for text in texts]
  return [*itertools.chain(*_alternating(fixed_tokens, said, ()))]


def refuse_tags(tokenizer: Any, around: Sequence[str], texts: Sequence[str]) -> None:
  """Refuses texts that hold a tag of the template that is no marker, and so read as the template's.

  Headers that are words, such as `User:`, are let pass, for ordinary texts hold them.

  Raises:
    ValueError: naming the tag.
  """
  tags = {tag for part in around for tag in TAG.findall(part)}
  for tag in sorted(tag for tag in tags if any(tag in text for text in texts)):
    if not markers(tokenizer, tokenizer(tag, add_special_tokens=False)['input_ids']):
      raise ValueError(
        f'a text holds {tag}, which this chat template writes in letters around what people say, '
        'so that people could forge turns; take it out of the text'
      )


def _alternating(around: Sequence[Any], between: Sequence[Any], nothing: Any) -> list[Any]:
  pairs = itertools.zip_longest(around, between, fillvalue=nothing)
  return [*itertools.chain.from_iterable(pairs)]


def following(tokenizer: Any, lead: str, text: str) -> list[int] | None:
  """Returns the tokens of a text behind another; None where one token is of both."""
  first, both = (
    tokenizer(each, add_special_tokens=False)['input_ids'] for each in (lead, lead + text)
  )
  return both[len(first) :] if both[: len(first)] == first else None


def reply(tokenizer: Any, lead: str, text: str) -> list[int]:
  """Returns the tokens of a text behind another, among them no marker.

  Raises:
    ValueError: as `plain`.
  """
  found = following(tokenizer, lead, text)
  return plain(tokenizer, text) if found is None or markers(tokenizer, found) else found


def of(tokenizer: Any, vocab_size: int | None = None) -> ChatTokens:
  """Returns the fixed tokens of a tokenizer's chat template.

  Args:
    tokenizer: of transformers.
    vocab_size: of the model that reads the tokens; None does not check that they are of one kind.

  Raises:
    ValueError: for a tokenizer without a template, one that does not keep texts as they are, one
      that shows an answer elsewhere than it asks for one, or one with tokens the model has not.
  """
  check_vocabulary(tokenizer, vocab_size)
  around = fixed(tokenizer, ['user'])
  *_, between, ending = fixed(tokenizer, ['user', 'assistant'], is_answered=True)
  before, after = alone(tokenizer, around)
  # Llama 2's template has a space before an answer, and before the marker after it.
  gap = between.removeprefix(around[1])
  if not between.startswith(around[1]) or gap.strip():
    raise ValueError(
      f'this chat template asks for an answer by {around[1]!r} and shows one behind {between!r}, '
      'as of models that think first; use one that answers at once'
    )
  lead = PLACE.join(around) + gap
  last = following(tokenizer, lead + PLACE, ending) or alone(tokenizer, [ending])[0]
  end = (*markers(tokenizer, last), *last, tokenizer.eos_token_id)[:1]
  return ChatTokens(
    tokenizer, tuple(before), tuple(after), ends(tokenizer, end), tuple(around), lead
  )


def ends(tokenizer: Any, own: Sequence[int]) -> tuple[int, ...]:
  """Returns all tokens after any of which a model may end what it writes, as transformers has it.

  Args:
    tokenizer: of transformers. The generation_config.json of the folder that it was read from, if
      there is one, may name more ends than the tokenizer.
    own: those that come first.

  Raises:
    ValueError: for a file that does not name tokens.
  """
  path = pathlib.Path(tokenizer.name_or_path) / GENERATION
  given: dict[str, Any] = {ENDS: None}
  if tokenizer.name_or_path and path.is_file():
    given |= files.read_json(path)
    fields.check(path, given, {ENDS: int | list[int] | None})
  named = given[ENDS] if isinstance(given[ENDS], list) else [given[ENDS]]
  found = dict.fromkeys([*own, tokenizer.eos_token_id, *named])
  return tuple(token for token in found if token is not None)


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
    ValueError: as `of` and `joined`.
  """
  roles, texts = [role for role, _ in turns], [text for _, text in turns]
  around, said = fixed(tokenizer, roles), shown(tokenizer, roles, texts)
  return joined(tokenizer, around, alone(tokenizer, around), said)


def alone(tokenizer: Any, parts: Sequence[str]) -> list[list[int]]:
  """Returns the tokens of each part of a template alone, whose markers are markers."""
  return [tokenizer(part, add_special_tokens=False)['input_ids'] if part else [] for part in parts]


def fixed(tokenizer: Any, roles: Sequence[str], *, is_answered: bool = False) -> list[str]:
  """Returns the template's texts before, between and after the texts of turns.

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
  parts = _rendered(tokenizer, roles, [PLACE] * len(roles), is_answered).split(PLACE)
  if len(parts) != len(roles) + 1:
    raise ValueError(CHANGES)
  return parts


def shown(
  tokenizer: Any, roles: Sequence[str], texts: Sequence[str], *, is_answered: bool = False
) -> list[str]:
  """Returns the texts of turns as the template shows them: some take off outer white space.

  Args:
    tokenizer: of transformers.
    roles: of the turns.
    texts: likewise.
    is_answered: as in `fixed`.

  Raises:
    ValueError: as there.
  """
  found = list(texts)
  for place, text in enumerate(texts):
    if text != text.strip():
      around = fixed(tokenizer, roles, is_answered=is_answered)
      given = [text if number == place else PLACE for number in range(len(roles))]
      rendered = _rendered(tokenizer, roles, given, is_answered)
      before, after = PLACE.join(around[: place + 1]), PLACE.join(around[place + 1 :])
      if not (rendered.startswith(before) and rendered.endswith(after)):
        raise ValueError(CHANGES)
      found[place] = rendered[len(before) : len(rendered) - len(after)]
  return found


def _rendered(tokenizer: Any, roles: Sequence[str], texts: Sequence[str], is_answered: bool) -> str:
  return tokenizer.apply_chat_template(
    [{'role': role, 'content': text} for role, text in zip(roles, texts, strict=True)],
    tokenize=False,
    add_generation_prompt=not is_answered,
    chat_template=rendering.with_date(tokenizer.get_chat_template(), rendering.DATE),
    enable_thinking=False,  # of Qwen3, whose template else shows answers where it asks for none
  )

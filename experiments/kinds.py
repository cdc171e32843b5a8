"""Fields of configs: which kinds of values each may hold, and how a flag is read as one of them."""

import ast
import collections.abc
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags
from ml_collections import config_dict
from ml_collections.config_flags import tuple_parser

Kind = type | types.UnionType  # what isinstance takes
UNTYPED = int | float | str  # what a field without annotation and default may hold


def _truth(text: str) -> bool:
  return {'true': True, 'false': False}[text.lower()]


# A text is read as the first of these that a field may hold.
READERS: dict[type, Callable[[str], Any]] = {bool: _truth, int: int, float: float, str: str}


def kind_of(annotation: Any) -> Kind | None:
  """Returns the kinds that an annotation allows, `tuple` for several; None where it names none."""
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  found = []
  for each in typing.get_args(annotation) if is_union else (annotation,):
    origin = typing.get_origin(each) or each
    if origin in (tuple, list, collections.abc.Sequence):
      found.append(tuple)
      found += [one for one in typing.get_args(each) if one in READERS]
    elif origin in READERS:
      found.append(origin)
  return functools.reduce(operator.or_, dict.fromkeys(found)) if found else None


def typed(value: Any, annotation: Any) -> Any:
  """Returns a value for a config, with the kinds that may take its place where it shows too few.

  That is a value of several kinds, such as one number or several of it, and None.
  """
  is_several = typing.get_origin(annotation) in (tuple, list, collections.abc.Sequence)
  kind = tuple if is_several else kind_of(annotation)
  if value is not None and not isinstance(kind, types.UnionType):
    return value
  return with_kind(value, kind or UNTYPED)


def with_kind(value: Any, kind: Kind) -> config_dict.FieldReference:
  """Returns a value that a config holds with the kinds that may take its place."""
  field = config_dict.FieldReference(None, field_type=kind)  # type: ignore[arg-type]
  field.set(value, type_safe=False)  # a whole number may stand for another
  return field


def replaced(field: Any, value: Any) -> Any:
  """Returns a value in the place of a field, of whose kinds the next value may be."""
  if isinstance(field, config_dict.FieldReference) and not isinstance(
    value, config_dict.FieldReference
  ):
    return with_kind(value, field.get_type())
  return value


def of_tuple(values: Any) -> dict[str, Any]:
  """Returns the fields of a NamedTuple, for a config."""
  kinds = typing.get_type_hints(type(values))
  return {name: typed(value, kinds[name]) for name, value in values._asdict().items()}


def parameters(factory: Callable) -> Mapping[str, inspect.Parameter]:
  """Returns the parameters of a function, with annotations as objects where they can be found."""
  try:
    return inspect.signature(factory, eval_str=True).parameters
  except NameError:  # of a name that is imported for type checkers alone
    return inspect.signature(factory).parameters


class OneOrSeveral(flags.ArgumentParser):
  """Reads a flag as a value of the kinds that a field may hold; several are divided by commas.

  A value that stands in quotes, and several in brackets, are read as Python writes them.
  """

  def __init__(self, kind: Kind):
    self.kinds = typing.get_args(kind) or (kind,)

  def parse(self, argument: Any) -> Any:
    """Returns the value that a text stands for; anything else as it is."""
    if not isinstance(argument, str):
      return argument
    text, is_several = argument.strip(), tuple in self.kinds
    if text[:1] in ('"', "'") or (is_several and text[:1] in ('(', '[')):
      written = literal(text)
      if isinstance(written, tuple | list) and is_several:
        return tuple(map(self.read, written))
      if isinstance(written, str):
        return (written,) if self.kinds == (tuple,) else written
      raise ValueError(f'{text} is not written as Python writes {self.flag_type()}')
    if is_several and (',' in text or self.kinds == (tuple,)):
      return tuple(self.read(part.strip()) for part in split(text))
    return self.read(text)

  def read(self, value: Any) -> Any:
    """Returns one value, of the first of the kinds that it can be read as."""
    kinds = [kind for kind in READERS if kind in self.kinds]
    if not kinds:
      return literal(value, value) if isinstance(value, str) else value
    text = value if isinstance(value, str) else repr(value)
    for kind in kinds:
      try:
        return READERS[kind](text)
      except (KeyError, ValueError):
        continue
    raise ValueError(f'expected {self.flag_type()}, got {text!r}')

  def flag_type(self) -> str:
    """Returns what is to be given, in words."""
    names = [kind.__name__ for kind in READERS if kind in self.kinds] or ['value']
    return ' or '.join(names) + (', or several' if tuple in self.kinds else '')


class Several(OneOrSeveral, tuple_parser.TupleParser):
  """The same of a field that holds several; a flag that is given again adds to them."""


def parser(kind: Kind) -> OneOrSeveral:
  """Returns what reads flags of fields of some kinds."""
  return Several(kind) if kind is tuple else OneOrSeveral(kind)


def literal(text: str, otherwise: Any = None) -> Any:
  """Returns what a text stands for in Python, or something else where it is no literal."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return otherwise


def split(text: str) -> list[str]:
  """Returns the parts of a text between commas; brackets keep theirs, and the last may be empty."""
  depth, parts = 0, ['']
  for letter in text:
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and depth == 0:
      parts.append('')
    else:
      parts[-1] += letter
  return [part for part in parts if part.strip()]

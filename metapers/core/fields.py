"""Values of JSON from outside: of which types and ranges they must be, and which one is not."""

import functools
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import Field

LARGEST = float(np.finfo(np.float32).max)
Size = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]  # NaN is neither


class Stored(pydantic.BaseModel):
  """What an array in a file must be."""

  shape: list[Size]
  dtype: str


def check(source: str | os.PathLike, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
  """Refuses JSON values that are not what they must be.

  Args:
    source: where they are from, for the message.
    values: by name; others than those of `kinds` may be among them.
    kinds: name -> type, as pydantic reads it. Nothing is converted, but whole numbers to float.

  Raises:
    ValueError: naming the first that is missing, or of another type or range.
  """
  for name, kind in kinds.items():
    if name not in values:
      raise ValueError(f'{source} lacks the field {name!r}; restore it from a copy')
    try:
      _adapter(kind).validate_json(json.dumps(values[name]), strict=True)
    except pydantic.ValidationError as error:
      first = error.errors(include_url=False)[0]
      where = '.'.join(map(str, (name, *first['loc'])))
      said = first['msg'].replace('Input should', 'must').replace('Field required', 'is missing')
      raise ValueError(f'{source}: field {where!r} {said}, got {first["input"]!r:.80}') from error


@functools.lru_cache(maxsize=256)
def _adapter(kind: Any) -> pydantic.TypeAdapter:
  return pydantic.TypeAdapter(kind)

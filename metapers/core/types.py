"""Type aliases, and THE glossary of dimension letters used in every docstring.

| letter | counts | letter | counts |
|---|---|---|---|
| T | tasks: users in one batch | M | slates: prompts with all their responses |
| N | comparisons of one user | H | hidden width of a network |
| K | candidates in one comparison | Z | width of a user state |
| D | features of one candidate | S | posterior samples or particles |
| B | reward models | U | known users |
| P | prompts | C | width of the context a learner is given |
| R | responses per prompt | I | items in a table of things people rated |
| E | candidates that bear on what was shown | L | numbers of shots evaluated |

`metapers.llm` has letters of its own, for positions of texts; decoder.py says which.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

Params = PyTree
Features = PyTree[Shaped[Array, '...']]  # [*T, N, K, ...] each; see `task.Candidates`
Context = PyTree[Shaped[Array, '...']]  # [*T, ...] each; see `task.Task`
UserState = PyTree
Metrics = dict[str, jax.Array]
PRNGKey = Key[Array, '']
Scalar = Float[Array, '']

__all__ = [
  'Any', 'Array', 'Bool', 'Callable', 'Context', 'Features', 'Float', 'Int', 'Key',
  'Metrics', 'Params', 'PRNGKey', 'PyTree', 'Scalar', 'Shaped', 'UserState',
]  # fmt: skip

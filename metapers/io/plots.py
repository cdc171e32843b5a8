"""Curves of accuracy against the number of comparisons, readable in print, light and dark."""

import html
import io
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import axes, ticker
from matplotlib.figure import Figure
from scipy import optimize

from metapers.core import files
from metapers.core.types import Float, Int

# Okabe and Ito's colours that show on white and on black alike; after six, other dashes.
COLORS = ('#1F83C6', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
DASHES = ('-', (0, (4, 1.5)), (0, (1, 1.2)))
MARKERS = ('o', 's', '^')
INK = '#24292e'  # the text; an SVG inside a page takes the page's own colour instead
GREY = '#808890'
STYLE: dict[Any, Any] = {
  'font.family': 'sans-serif',
  'font.size': 9,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'metapers',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'text.color': INK,
  'axes.labelcolor': INK,
  'axes.edgecolor': INK,
  'xtick.color': INK,
  'ytick.color': INK,
}


LABEL_GAP = 4  # points between the marker of a label and its text
TITLE_WIDTH = 72  # characters that fit above the figure
WIDE, NARROW = (7, 4.5), (3.6, 4)  # inches
TICK_GAPS = {False: 0.04, True: 0.09}  # between numbers on the axis, of its length; True: narrow


class Curve(NamedTuple):
  """One line of a figure.

  role: 'learner'; 'reference' (drawn in ink: oracle, bayes); 'baseline' (in grey: pooled).
  low, high: [L] of the interval; NaN where there is none. points: [S, L] of single seeds.
  """

  name: str
  role: str
  shots: Int[np.ndarray, 'L']
  value: Float[np.ndarray, 'L']
  low: Float[np.ndarray, 'L']
  high: Float[np.ndarray, 'L']
  points: Float[np.ndarray, 'S L']


def position(shots: np.ndarray) -> np.ndarray:
  """Returns places on the axis: log2(1 + shots), so that 0 has one and doubling is one step."""
  return np.log2(1 + np.asarray(shots))


def line_styles(curves: Sequence[Curve]) -> list[dict]:
  """Returns colour, dash and marker of every curve."""
  styles, num_learners, num_references = [], 0, 0
  for curve in curves:
    if curve.role == 'learner':
      turn, color = divmod(num_learners, len(COLORS))
      kind = turn % len(DASHES)
      styles.append({'color': COLORS[color], 'ls': DASHES[kind], 'marker': MARKERS[kind]})
      num_learners += 1
    elif curve.role == 'reference':
      styles.append({'color': INK, 'ls': DASHES[num_references % len(DASHES)], 'marker': ''})
      num_references += 1
    else:
      styles.append({'color': GREY, 'ls': '-', 'marker': ''})
  return styles


def spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
  """Returns label positions in order, `gap` or more apart, within [low, high] where they fit."""
  order = np.argsort(wanted, kind='stable')
  placed = wanted[order].astype(float)
  steps = gap * np.arange(len(placed))
  # Labels that would touch become blocks, each centred on where its members would be.
  level = optimize.isotonic_regression(placed - steps).x
  level = np.clip(level, low, max(low, high - steps[-1]))
  result = np.empty_like(placed)
  result[order] = level + steps
  return result


def draw_curve(axis: axes.Axes, curve: Curve, style: dict) -> None:
  """Draws one line, its interval as a band and its seeds as points."""
  at = position(curve.shots)
  width = 1.6 if curve.role == 'learner' else 1.3
  axis.plot(at, curve.value, lw=width, ms=3.5, **style)
  axis.fill_between(at, curve.low, curve.high, color=style['color'], alpha=0.13, lw=0)
  for seed in curve.points:
    axis.plot(at, seed, ls='', marker='.', ms=2.5, color=style['color'], alpha=0.45)


def label_curves(axis: axes.Axes, curves: Sequence[Curve], styles: Sequence[dict]) -> None:
  """Writes each curve's name beside its right end, moved apart, with a thin line back to it.

  The line has the dash of the curve and ends with its marker: two may share a colour.
  """
  low, high = axis.get_ylim()
  end = max(position(curve.shots)[-1] for curve in curves)
  right = axis.get_xlim()[0] + (end - axis.get_xlim()[0]) * 1.06
  ends = np.array([curve.value[-1] for curve in curves])
  heights = spread(ends, 0.047 * (high - low), low, high)
  for curve, style, value, height in zip(curves, styles, ends, heights):
    start = position(curve.shots)[-1]
    axis.plot(
      [start, right], [value, height], **style, lw=0.9, ms=3.5, markevery=[1], clip_on=False
    )  # fmt: skip
    weight = 'normal' if curve.role == 'learner' else 'bold'
    axis.annotate(
      curve.name, (right, height), (LABEL_GAP, 0), textcoords='offset points', va='center',
      color=style['color'], fontsize=8, weight=weight,
    )  # fmt: skip
  axis.set_xlim(right=right)


def adaptation(
  curves: Sequence[Curve],
  *,
  title: str,
  value_label: str = 'accuracy',
  count_label: str = 'comparisons given of a new user',
  in_percent: bool = True,
  is_narrow: bool = False,
) -> Figure:
  """Returns an adaptation figure: one line a learner over the number of comparisons.

  Args:
    curves: in the order in which learners take colours.
    title: what is shown, and of which users.
    value_label: of the vertical axis.
    count_label: of the horizontal axis.
    in_percent: write values as percentages.
    is_narrow: for a telephone, whose page says the title already: letters are larger beside it.

  Raises:
    ValueError: without any curve.
  """
  if not curves:
    raise ValueError('no curves to draw; give at least one learner or reference')
  with matplotlib.rc_context(STYLE):
    made = _Shown(figsize=NARROW if is_narrow else WIDE, dpi=160, layout='constrained')
    made.set_label(described(curves, f'{title}: {value_label} by {count_label}', in_percent))
    axis = made.subplots()
    styles = line_styles(curves)
    for curve, style in zip(curves, styles):
      draw_curve(axis, curve, style)
    axis.margins(x=0.02, y=0.04)
    label_curves(axis, curves, styles)
    shots = np.unique(np.concatenate([curve.shots for curve in curves]))
    named = apart(position(shots), TICK_GAPS[is_narrow])
    axis.set_xticks(position(shots), [str(count) if at else '' for count, at in zip(shots, named)])
    axis.spines['bottom'].set_bounds(*position(shots[[0, -1]]).tolist())
    axis.set_xlabel(count_label, loc='left')
    axis.set_ylabel(value_label)
    if in_percent:
      axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f'{100 * share:g} %'))
    axis.grid(axis='y', color=GREY, alpha=0.25, lw=0.6)
    if not is_narrow:
      axis.set_title(textwrap.fill(title, TITLE_WIDTH), loc='left', fontsize=10, weight='bold')
  return made


def dots(
  marks: Mapping[str, Mapping[str, tuple[float, float]]],
  names: Sequence[str],
  *,
  title: str,
  value_label: str,
  target: float,
  band: tuple[float, float],
) -> Figure:
  """Returns shares beside each other: a line for each name, on it a mark for each series.

  Args:
    marks: series -> name -> value and its standard error.
    names: from top to bottom.
    title: what is shown.
    value_label: of the horizontal axis.
    target: where values should lie, and band: where they may.
  """
  with matplotlib.rc_context(STYLE):
    made = _Shown(figsize=(7, 1.2 + 0.19 * len(names)), dpi=160, layout='constrained')
    axis = made.subplots()
    axis.axvspan(*band, color=GREY, alpha=0.2, lw=0)
    axis.axvline(target, color=INK, lw=0.8)
    for number, (series, found) in enumerate(marks.items()):
      shift = 0.6 * ((number + 0.5) / len(marks) - 0.5)
      at = [names.index(name) + shift for name in found]
      value, error = np.array(list(found.values())).T
      color = COLORS[number % len(COLORS)]
      axis.errorbar(
        value, at, xerr=error, fmt=MARKERS[number % len(MARKERS)], ms=3, lw=0.8, color=color,
        label=series,
      )  # fmt: skip
    axis.set_yticks(range(len(names)), [name.replace('_', ' ') for name in names], fontsize=7)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f'{100 * share:g} %'))
    axis.set_xlabel(value_label, loc='left')
    axis.grid(axis='y', color=GREY, alpha=0.2, lw=0.5)
    made.legend(loc='outside lower center', ncols=3, frameon=False, fontsize=8)
    axis.set_title(title, loc='left', fontsize=10, weight='bold')
    made.set_label(f'{title}; see the table')
  return made


def apart(places: np.ndarray, gap: float) -> list[bool]:
  """Tells which of some rising places to name, from the last on, so that names do not touch."""
  least, before, named = gap * (places[-1] - places[0]), np.inf, []
  for place in places[::-1]:
    named.append(bool(before - place >= least))
    before = place if named[-1] else before
  return named[::-1]


def described(curves: Sequence[Curve], start: str, in_percent: bool) -> str:
  """Returns a figure in words, for those who cannot see it: where each curve begins and ends."""
  form = '{:.1%}' if in_percent else '{:.3g}'
  ends = [
    f'{curve.name} from {form.format(curve.value[0])} at {curve.shots[0]} to '
    f'{form.format(curve.value[-1])} at {curve.shots[-1]}'
    for curve in curves
  ]
  return f'{start}; {", ".join(ends)}'


def save(made: Figure, path: str | os.PathLike) -> pathlib.Path:
  """Writes a figure as .png, .svg or .pdf by its suffix, whole or not at all; returns the path."""
  buffer = io.BytesIO()
  with matplotlib.rc_context(STYLE):
    made.savefig(buffer, format=pathlib.Path(path).suffix[1:], facecolor='white')
  return files.write_atomically(path, buffer.getvalue())


class _Shown(Figure):
  """A figure that notebooks show as it is in reports: as lines and letters."""

  def _repr_svg_(self) -> str:
    return inline_svg(self)


def shown(**size: Any) -> Figure:
  """Returns an empty figure that notebooks show as it is in reports."""
  return _Shown(**size)


def inline_svg(made: Figure) -> str:
  """Returns the figure as an SVG element for a page, its ink in the page's text colour."""
  buffer = io.StringIO()
  with matplotlib.rc_context(STYLE):
    # HTML has no element for metadata.
    none = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
    made.savefig(buffer, format='svg', transparent=True, metadata=none)
  svg = buffer.getvalue().replace(INK, 'currentColor')
  said = made.get_label() or ' '.join(made.axes[0].get_title(loc='left').split())
  label = f'<svg role="img" aria-label="{html.escape(str(said))}"'
  return label + svg[svg.index('<svg') + len('<svg') :]

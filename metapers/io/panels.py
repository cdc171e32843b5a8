"""Panels of figures: bars, lines, boxes, matrices; side by side, or stacked where narrow."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import axes, ticker
from matplotlib.figure import Figure

from metapers.core.types import Float
from metapers.io import plots

SMALL = 8  # points: the least that can be read on a telephone
WIDE, NARROW = 7.0, 3.6  # inches
SHADES = 'Blues', 'RdBu_r'  # of amounts, and of what may be below 0
MOST_MARKERS = 30  # of a line
NUMBERED = 10  # cells a side, up to which a matrix shows its numbers on wide screens
Numbers = Mapping[str, tuple[float, float]]  # name -> value and its standard error
Draw = Callable[[axes.Axes, bool], None]  # onto axes, whether they are narrow


class Panel(NamedTuple):
  """One part of a figure. title: above it. height: in inches."""

  draw: Draw
  title: str = ''
  height: float = 2.6


class Line(NamedTuple):
  """One line: values at places, with half-widths of their bands; NaN for none."""

  at: Float[np.ndarray, 'N']
  value: Float[np.ndarray, 'N']
  half_width: Float[np.ndarray, 'N']


def figure(
  panels: Sequence[Panel], *, title: str, described: str = '', is_narrow: bool = False
) -> Figure:
  """Returns panels side by side, or under each other for a telephone.

  Args:
    panels: from left to right.
    title: of the whole; a page says it already where it is narrow.
    described: the figure in words, for those who cannot see it.
    is_narrow: for a telephone.

  Raises:
    ValueError: without a panel.
  """
  if not panels:
    raise ValueError('no panels to draw; give at least one')
  heights = [panel.height for panel in panels]
  size = (NARROW, sum(heights) + 0.3) if is_narrow else (WIDE, max(heights) + 0.4)
  shape = (len(panels), 1) if is_narrow else (1, len(panels))
  with matplotlib.rc_context(plots.STYLE):
    made = plots.shown(figsize=size, dpi=160, layout='constrained')
    made.set_label(f'{title}. {described}' if described else title)
    ratios = {'height_ratios': heights} if is_narrow else {}
    grid = made.subplots(*shape, squeeze=False, gridspec_kw=ratios)
    for axis, panel in zip(grid.ravel(), panels):
      panel.draw(axis, is_narrow)
      axis.set_title(panel.title, loc='left', fontsize=9, weight='bold')
      axis.tick_params(labelsize=SMALL)
    write_legends(made)
    if not is_narrow:
      made.suptitle(title, x=0.01, ha='left', fontsize=10, weight='bold')
  return made


def bars(
  series: Mapping[str, Numbers],
  value_label: str,
  *,
  marks: Mapping[str, Mapping[str, float]] | None = None,
) -> Draw:
  """Makes what draws a block of upright bars for each name, one of each series in it.

  Args:
    series: name -> group -> value and standard error; bars show two of these.
    value_label: of the axis.
    marks: series -> group -> another value, marked by a cross (what is published).
  """
  groups = list(dict.fromkeys(itertools.chain(*series.values())))

  def draw(axis: axes.Axes, is_narrow: bool) -> None:
    del is_narrow
    width = 0.84 / len(series)
    for number, (name, values) in enumerate(series.items()):
      at = [groups.index(group) + (number - (len(series) - 1) / 2) * width for group in values]
      value, error = np.array(list(values.values())).T
      color = color_of(number)
      axis.bar(at, value, 0.92 * width, color=color, label=name)
      axis.errorbar(at, value, 2 * np.nan_to_num(error), fmt='none', ecolor=plots.INK, lw=0.7)
      crosses = (marks or {}).get(name, {})
      places = [place for place, group in zip(at, values) if group in crosses]
      heights = [crosses[group] for group in values if group in crosses]
      axis.plot(places, heights, ls='', marker='x', ms=4, color=plots.INK)
    axis.set_xticks(range(len(groups)), groups)
    finish(axis, value_label)

  return draw


def rows(
  series: Mapping[str, Numbers],
  value_label: str,
  *,
  marks: Mapping[str, Mapping[str, float]] | None = None,
  line: float | None = None,
  is_log: bool = False,
) -> Draw:
  """Makes what draws a row for each group, and in it a dot with its error for each series.

  Args:
    series: name -> group -> value and standard error; whiskers show two of these.
    value_label: of the axis.
    marks: series -> group -> another value, marked by a cross.
    line: where an upright line stands.
    is_log: whether the axis is logarithmic.
  """
  groups = list(dict.fromkeys(itertools.chain(*series.values())))

  def draw(axis: axes.Axes, is_narrow: bool) -> None:
    del is_narrow
    if line is not None:
      axis.axvline(line, color=plots.INK, lw=0.8)
    for number, (name, values) in enumerate(series.items()):
      shift = 0.6 * ((number + 0.5) / len(series) - 0.5)
      at = [groups.index(group) + shift for group in values]
      value, error = np.array(list(values.values())).T
      color = color_of(number)
      marker = plots.MARKERS[number % len(plots.MARKERS)]
      axis.errorbar(
        value, at, xerr=2 * np.nan_to_num(error), fmt=marker, ms=4, lw=0.9, color=color, label=name
      )
      crosses = (marks or {}).get(name, {})
      known = [(crosses[group], place) for group, place in zip(values, at) if group in crosses]
      if known:
        axis.plot(*zip(*known), ls='', marker='x', ms=4, color=plots.INK)
    axis.set_yticks(range(len(groups)), groups)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xscale('log' if is_log else 'linear')
    axis.set_xlabel(value_label, loc='left', fontsize=SMALL)
    axis.grid(axis='both', color=plots.GREY, alpha=0.2, lw=0.5)

  return draw


def lines(
  series: Mapping[str, Line],
  x_label: str,
  y_label: str,
  *,
  is_log: bool = False,
  is_log_y: bool = False,
  levels: Mapping[str, float] | None = None,
  band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
  ticks: Sequence[float] | Sequence[int] = (),
) -> Draw:
  """Makes what draws lines with bands.

  Args:
    series: name -> line.
    x_label: of the horizontal axis.
    y_label: of the vertical axis.
    is_log: whether the horizontal axis is logarithmic.
    is_log_y: whether the vertical axis is.
    levels: name -> height of a dashed level.
    band: places, low and high of a grey band.
    ticks: numbers to name on the horizontal axis; by default those of matplotlib.
  """

  def draw(axis: axes.Axes, is_narrow: bool) -> None:
    del is_narrow
    if band:
      axis.fill_between(*band, color=plots.GREY, alpha=0.3, lw=0)
    if is_log:
      axis.set_xscale('log')
    for number, (name, line) in enumerate(series.items()):
      color = color_of(number)
      marker = plots.MARKERS[number % len(plots.MARKERS)]
      marker = marker if len(line.at) <= MOST_MARKERS else ''
      axis.plot(line.at, line.value, marker=marker, ms=3.5, lw=1.4, color=color, label=name)
      low, high = line.value - line.half_width, line.value + line.half_width
      axis.fill_between(line.at, low, high, color=color, alpha=0.15, lw=0)
    for number, (name, height) in enumerate((levels or {}).items()):
      dashes = plots.DASHES[1 + number % (len(plots.DASHES) - 1)]
      axis.axhline(height, color=plots.GREY, ls=dashes, lw=1, label=name)
    if len(ticks):
      axis.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
      axis.minorticks_off()
    axis.set_xlabel(x_label, loc='left', fontsize=SMALL)
    finish(axis, y_label)
    if is_log_y:
      axis.set_yscale('log')
      axis.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))

  return draw


def boxes(
  values: Mapping[str, Float[np.ndarray, 'N']],
  value_label: str,
  *,
  bands: Mapping[str, tuple[float, float]] | None = None,
) -> Draw:
  """Makes what draws a lying box plot for each name: quartiles, whiskers at 5 % and 95 %.

  Args:
    values: name -> numbers.
    value_label: of the axis.
    bands: name -> a grey interval behind its box, such as what chance gives.
  """

  def draw(axis: axes.Axes, is_narrow: bool) -> None:
    del is_narrow
    axis.axvline(0, color=plots.INK, lw=0.8)
    for number, name in enumerate(values):
      if bands and name in bands:
        low, high = bands[name]
        axis.barh(number, high - low, 0.86, low, color=plots.GREY, alpha=0.3)
    style = {'color': plots.INK, 'lw': 0.9}
    axis.boxplot(
      list(values.values()), orientation='horizontal', positions=range(len(values)), whis=(5, 95),
      showfliers=False, widths=0.5, patch_artist=True, medianprops={**style, 'lw': 1.6},
      boxprops={**style, 'facecolor': color_of(0), 'alpha': 0.75}, whiskerprops=style,
      capprops=style,
    )  # fmt: skip
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.set_xlabel(value_label, loc='left', fontsize=SMALL)
    axis.grid(axis='x', color=plots.GREY, alpha=0.25, lw=0.6)

  return draw


def matrix(
  values: Float[np.ndarray, 'M N'],
  names: Sequence[str],
  *,
  columns: Sequence[str] | None = None,
  low: float = 0.0,
  high: float = 1.0,
  form: str = '{:.2f}',
  has_rows: bool = True,
) -> Draw:
  """Makes what draws a matrix in colours, with its numbers where they can be read.

  Args:
    values: to draw.
    names: of the rows, and of the columns unless these have their own.
    columns: of the columns.
    low: value of the first colour; below 0, white is 0.
    high: value of the last colour.
    form: how a number is written.
    has_rows: whether the rows are named.
  """
  own = list(names if columns is None else columns)

  def draw(axis: axes.Axes, is_narrow: bool) -> None:
    shades = SHADES[low < 0]
    axis.imshow(values, cmap=shades, vmin=low, vmax=high, aspect='auto', interpolation='nearest')
    axis.set_xticks(range(len(own)), own, rotation=90 if max(map(len, own)) > 4 else 0)
    axis.set_yticks(range(len(names)), list(names) if has_rows else [''] * len(names))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if len(own) > (NUMBERED - 5 if is_narrow else NUMBERED):
      return
    for row, column in np.ndindex(values.shape):
      value = values[row, column]
      share = (value - low) / (high - low)
      is_dark = abs(share - 0.5) > 0.3 if low < 0 else share > 0.6
      axis.text(
        column, row, form.format(value) if np.isfinite(value) else '', ha='center', va='center',
        fontsize=SMALL - 1, color='white' if is_dark else '#1a1a1a',
      )  # fmt: skip

  return draw


def color_of(number: int) -> str:
  """Returns the colour of a series."""
  return plots.COLORS[number % len(plots.COLORS)]


def finish(axis: axes.Axes, value_label: str) -> None:
  """Writes the label of the vertical axis, and a grid."""
  axis.set_ylabel(value_label, fontsize=SMALL)
  axis.grid(axis='y', color=plots.GREY, alpha=0.25, lw=0.6)


def write_legends(made: Figure) -> None:
  """Names the series once under the figure where all panels have the same, else under each."""
  named = [axis for axis in made.axes if len(axis.get_legend_handles_labels()[1]) > 1]
  labels = {tuple(axis.get_legend_handles_labels()[1]) for axis in named}
  style: dict = {'frameon': False, 'fontsize': SMALL, 'handlelength': 1.4, 'columnspacing': 1}
  if len(labels) == 1:
    handles, names = named[0].get_legend_handles_labels()
    most, room = (4, 108) if made.get_figwidth() > NARROW else (2, 54)  # columns, letters
    columns = max(1, min(len(names), most, room // (max(map(len, names)) + 6)))
    made.legend(handles, names, loc='outside lower center', ncols=columns, **style)
  elif labels:
    for axis in named:
      axis.legend(loc='upper center', bbox_to_anchor=(0.5, 0), borderaxespad=4, **style)

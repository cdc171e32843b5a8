"""metapers: learn across users to infer one user's preferences from a handful of comparisons."""

__version__ = '0.1.0'

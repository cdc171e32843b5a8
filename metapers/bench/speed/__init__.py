"""How fast a step is: the library's own beside the same step in other frameworks."""

"""A world of another look: other things, materials, backgrounds, camera and grammar.

A recipe that was found on the first world is tried on this one. `shapes` -> `picture` (clutter,
patterned things, blur and noise) -> `captions` -> `sample`; the writer's folders are the same. In
the third look things wear patterns of their own (`marks`): names are easier to learn.
"""

"""The modules of picasclient 1.x, on the core: `picas.actors`, `picas.clients` and their like.

They are imported under those names, never as `picas.classic.actors`: the package's `__path__` ends in this
folder. So a module here imports its siblings relatively, which gives one copy of each.
"""

"""Backups over time: which should exist, which may go, whether they are tested, and who is told when not.

`state` gathers, `schedule` / `retention` / `space` are arithmetic, `checks` judge, `monitor` shows.
"""

"""The runbook as a test: any runbook in Markdown, each of its sections rehearsed on throwaway servers.

`parse` reads sections, `trace` ties them to rehearsals both ways, `ground` is where rehearsals happen, and
`postgres`, `redis`, `files`, `watch` hold the rehearsals. A rehearsal is a check (harness/check.py) over the
user's own newest backups, so it needs no knowledge of the system it rehearses.
"""

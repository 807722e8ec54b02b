"""Rows that lay in a page of zeros: the server takes such a page for a new one, and only indexes remember.

Counting through an index sees them where the visibility map calls the page all-visible. Elsewhere the scan
asks the table, finds nothing, marks the entry as dead and goes on, so the index's own entries are read here,
dead or not. A page of zeros that no entry leads to is a table's normal room to grow.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from .fingerprint import Connection
from .physical_restore import attempt

_PAGES: Final = """
SELECT array_agg(b) FROM generate_series(0, pg_catalog.pg_relation_size({0}::oid::regclass)
  / pg_catalog.current_setting('block_size')::int - 1) b
WHERE (pg_catalog.page_header(pg_catalog.get_raw_page({0}::oid::regclass::text, b::int))).lower = 0"""
_INDEX: Final = """
SELECT i.indexrelid::bigint FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE i.indrelid = %s AND a.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indpred IS NULL
ORDER BY i.indisprimary DESC, c.relpages LIMIT 1"""
_ENTRIES: Final = """
SELECT count(*) FROM generate_series(1, pg_catalog.pg_relation_size({0}::oid::regclass)
  / pg_catalog.current_setting('block_size')::int - 1) b,
  LATERAL pg_catalog.bt_page_stats({0}::oid::regclass::text, b::int) s,
  LATERAL pg_catalog.bt_page_items({0}::oid::regclass::text, b::int) e,
  LATERAL unnest(coalesce(e.tids, ARRAY[e.htid])) place
WHERE s.type IN ('l', 'r') AND e.dead IS NOT NULL AND (place::text::point)[0]::bigint = ANY ({1})"""


def rows_in_zeroed_pages(conn: Connection, oid: int) -> int:
    """How many entries of a table's B-tree lead into pages of zeros. Needs pageinspect in the transaction."""
    pages, index = sql.SQL(_PAGES).format(oid), conn.execute(_INDEX, (oid,)).fetchone()
    if index is None or attempt(conn, pages) is not None:
        return 0
    found = conn.execute(pages).fetchone()
    if not found or not found[0]:
        return 0
    entries = sql.SQL(_ENTRIES).format(index[0], sql.Literal(found[0]))
    if attempt(conn, entries) is not None:
        return 0
    counted = conn.execute(entries).fetchone()
    return int(counted[0]) if counted else 0

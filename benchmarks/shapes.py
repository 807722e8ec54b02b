"""Databases to measure with: gateway-shaped ones of any size, one giant table, thousands of small tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

GATEWAY: Final = """
CREATE TYPE status AS ENUM ('PENDING','ENQUEUED','SENT','FAILED','RETRYING','DELIVERED','BOUNCED');
CREATE TABLE companies (id text PRIMARY KEY, name text NOT NULL, api_key text NOT NULL UNIQUE, is_active boolean NOT NULL,
  daily_limit integer NOT NULL, settings jsonb NOT NULL, allowed_ips text[] NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE recipients (id text PRIMARY KEY, company_id text NOT NULL, external_id text, cpf_cnpj_hash text,
  cpf_cnpj_enc text, email text NOT NULL, nome text, created_at timestamptz NOT NULL, deleted_at timestamptz);
CREATE TABLE email_outbox (id text PRIMARY KEY, company_id text NOT NULL, to_address text NOT NULL, cc text[] NOT NULL,
  subject text NOT NULL, html text NOT NULL, headers jsonb, tags text[] NOT NULL, external_id text, recipient_id text,
  status status NOT NULL, attempts integer NOT NULL, created_at timestamptz NOT NULL, processed_at timestamptz);
CREATE TABLE email_logs (id text PRIMARY KEY, outbox_id text, company_id text NOT NULL, to_address text NOT NULL,
  subject text NOT NULL, status status NOT NULL, ses_message_id text, error_code text, attempts integer NOT NULL,
  duration_ms integer, request_id text, created_at timestamptz NOT NULL, sent_at timestamptz);
CREATE TABLE email_events (id text PRIMARY KEY, email_log_id text NOT NULL, type text NOT NULL, metadata jsonb,
  created_at timestamptz NOT NULL);
CREATE TABLE audit_logs (id text PRIMARY KEY, company_id text NOT NULL, action text NOT NULL, resource text NOT NULL,
  ip_address inet, metadata jsonb, created_at timestamptz NOT NULL);
"""
_AFTER: Final = """
CREATE INDEX ON recipients (company_id, email); CREATE INDEX ON recipients (company_id, external_id);
CREATE INDEX ON recipients (cpf_cnpj_hash); CREATE INDEX ON email_outbox (company_id, created_at);
CREATE INDEX ON email_outbox (status, created_at); CREATE INDEX ON email_outbox (recipient_id);
CREATE INDEX ON email_logs (company_id, created_at DESC); CREATE INDEX ON email_logs (status, created_at);
CREATE INDEX ON email_logs (to_address); CREATE INDEX ON email_logs (request_id); CREATE INDEX ON email_logs (ses_message_id);
CREATE INDEX ON email_events (email_log_id, created_at); CREATE INDEX ON email_events (type, created_at);
CREATE INDEX ON audit_logs (company_id, created_at); CREATE INDEX ON audit_logs (action);
ALTER TABLE recipients ADD FOREIGN KEY (company_id) REFERENCES companies;
ALTER TABLE email_outbox ADD FOREIGN KEY (company_id) REFERENCES companies;
ALTER TABLE email_logs ADD FOREIGN KEY (company_id) REFERENCES companies;
ALTER TABLE email_logs ADD FOREIGN KEY (outbox_id) REFERENCES email_outbox;
ALTER TABLE email_events ADD FOREIGN KEY (email_log_id) REFERENCES email_logs;
"""


def gateway(scale: float) -> list[str]:
    """Statements for a gateway-like database; scale 1 is about 1.4 GB on disk and 735 MB of SQL text."""
    n = {
        "companies": max(5, int(200 * scale)),
        "recipients": int(240_000 * scale),
        "outbox": int(330_000 * scale),
        "logs": int(1_000_000 * scale),
        "events": int(900_000 * scale),
        "audit": int(240_000 * scale),
    }
    many = "repeat(md5(i::text) || ' Olá, seu pedido foi confirmado. ', 16)"
    return [
        GATEWAY,
        f"""INSERT INTO companies SELECT 'cmp' || i, 'Empresa ' || i, 'sk_' || md5(i::text), true, 1000 + i,
          jsonb_build_object('tz', 'America/Sao_Paulo', 'n', i), ARRAY['10.0.0.' || i % 250],
          '2025-01-01Z'::timestamptz + i * '1 min'::interval FROM generate_series(1, {n["companies"]}) i""",
        f"""INSERT INTO recipients SELECT 'rcp' || md5(i::text), 'cmp' || 1 + i % {n["companies"]}, 'ext-' || i,
          md5('h' || i), md5('e' || i) || md5('f' || i), 'pessoa' || i || '@example.com', 'Pessoa ' || i,
          '2025-01-01Z'::timestamptz + i * '1 min'::interval, NULL FROM generate_series(1, {n["recipients"]}) i""",
        f"""INSERT INTO email_outbox SELECT 'out' || md5(i::text), 'cmp' || 1 + i % {n["companies"]},
          'pessoa' || i || '@example.com', '{{}}', 'Pedido ' || i || ' confirmado', {many},
          jsonb_build_object('X-Id', i), ARRAY['pedido', 'v' || i % 7], 'ext-' || i, 'rcp' || md5(i::text),
          (enum_range(NULL::status))[1 + i % 7], i % 4, '2025-01-01Z'::timestamptz + i * '40 s'::interval,
          '2025-01-01Z'::timestamptz + i * '41 s'::interval FROM generate_series(1, {n["outbox"]}) i""",
        f"""INSERT INTO email_logs SELECT 'log' || md5(i::text), 'out' || md5((1 + i % {n["outbox"]})::text),
          'cmp' || 1 + i % {n["companies"]}, 'pessoa' || i % 500000 || '@example.com', 'Pedido ' || i || ' confirmado',
          (enum_range(NULL::status))[1 + i % 7], md5('m' || i), NULL, i % 4, i % 900, 'req-' || md5('r' || i),
          '2025-01-01Z'::timestamptz + i * '15 s'::interval, '2025-01-01Z'::timestamptz + i * '16 s'::interval
          FROM generate_series(1, {n["logs"]}) i""",
        f"""INSERT INTO email_events SELECT 'evt' || md5(i::text), 'log' || md5((1 + i % {n["logs"]})::text),
          (ARRAY['CREATED','SENT','OPENED','CLICKED'])[1 + i % 4], jsonb_build_object('ip', '10.0.0.' || i % 250),
          '2025-01-01Z'::timestamptz + i * '17 s'::interval FROM generate_series(1, {n["events"]}) i""",
        f"""INSERT INTO audit_logs SELECT 'aud' || md5(i::text), 'cmp' || 1 + i % {n["companies"]},
          (ARRAY['LOGIN','SEND','UPDATE'])[1 + i % 3], 'email_outbox', ('10.0.0.' || i % 250)::inet,
          jsonb_build_object('agent', md5(i::text)), '2025-01-01Z'::timestamptz + i * '1 min'::interval
          FROM generate_series(1, {n["audit"]}) i""",
        _AFTER,
    ]


def giant(scale: float) -> list[str]:
    """One table of about 1 GB of SQL text at scale 1, with a key and two indexes."""
    rows = int(3_600_000 * scale)
    return [
        "CREATE TABLE events (id bigint PRIMARY KEY, kind text NOT NULL, payload jsonb NOT NULL, body text NOT NULL,"
        " at timestamptz NOT NULL)",
        f"""INSERT INTO events SELECT i, (ARRAY['a','b','c'])[1 + i % 3], jsonb_build_object('n', i, 'k', md5(i::text)),
          repeat(md5(i::text), 5), '2025-01-01Z'::timestamptz + i * '1 s'::interval FROM generate_series(1, {rows}) i""",
        "CREATE INDEX ON events (kind, at); CREATE INDEX ON events (at)",
    ]


def small_tables(scale: float) -> list[str]:
    """5,000 tables of 20 rows each at scale 1, as tenants have them: ten to a schema, each with a key, an index and a
    foreign key to the schema's first."""
    return [
        f"""DO $$ BEGIN FOR s IN {start}..{start + 19} LOOP
          EXECUTE format('CREATE SCHEMA tenant%s', s);
          EXECUTE format('CREATE TABLE tenant%s.t0 (id int PRIMARY KEY, v text)', s);
          EXECUTE format('INSERT INTO tenant%s.t0 SELECT i, md5(i::text) FROM generate_series(1, 20) i', s);
          FOR n IN 1..9 LOOP
            EXECUTE format('CREATE TABLE tenant%s.t%s (id int PRIMARY KEY, parent int REFERENCES tenant%1$s.t0,
              v text, at timestamptz)', s, n);
            EXECUTE format('INSERT INTO tenant%s.t%s SELECT i, i, md5(i::text), now() FROM generate_series(1, 20) i', s, n);
            EXECUTE format('CREATE INDEX ON tenant%s.t%s (v)', s, n);
          END LOOP; END LOOP; END $$"""
        for start in range(0, max(20, int(500 * scale)), 20)
    ]


def star(scale: float) -> list[str]:
    """As many small tables, which all refer to one: every foreign key makes that one slower to look at."""
    count = max(2, int(5000 * scale))
    statements = [
        "CREATE TABLE t0 (id int PRIMARY KEY, v text)",
        "INSERT INTO t0 SELECT i, md5(i::text) FROM generate_series(1, 20) i",
    ]
    for start in range(1, count, 200):
        statements.append(
            f"""DO $$ BEGIN FOR n IN {start}..{min(count, start + 200) - 1} LOOP
              EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, parent int REFERENCES t0, v text, at timestamptz)', n);
              EXECUTE format('INSERT INTO t%s SELECT i, i, md5(i::text), now() FROM generate_series(1, 20) i', n);
              EXECUTE format('CREATE INDEX ON t%s (v)', n); END LOOP; END $$"""
        )
    return statements


SHAPES: Final[dict[str, Callable[[float], list[str]]]] = {
    "gateway": gateway,
    "giant": giant,
    "small-tables": small_tables,
    "star": star,
}

"""The env template never holds a secret's value, and never loses a name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.files.backup import template
from harness.files.env import is_secret, names

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
SECRETS = st.builds(
    "{}_{}".format, NAMES, st.sampled_from(["PASSWORD", "SECRET", "KEY", "TOKEN", "API_KEY", "SALT"])
)
VALUES = st.text(st.characters(codec="ascii", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e"), max_size=40)


@given(st.dictionaries(NAMES | SECRETS, VALUES, max_size=12), st.sampled_from(["", "export "]))
def test_names_stay_and_secrets_go(variables: dict[str, str], head: str) -> None:
    text = "".join(f"{head}{name}={value}\n" for name, value in variables.items())
    made = template(text)
    assert set(names(made)) == set(variables)
    for line in made.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        assert not (is_secret(name) and value)
    assert template(made) == made


@given(st.from_regex(r"[a-z]{2,8}", fullmatch=True), st.from_regex(r"[A-Za-z0-9]{8,20}", fullmatch=True))
def test_passwords_in_urls_go(user: str, password: str) -> None:
    made = template(f"DATABASE_URL=postgres://{user}:{password}@db.example.org:5432/x?schema=public\n")
    assert f":{password}@" not in made and "db.example.org:5432/x?schema=public" in made

"""`provado schema`: the configuration's JSON Schema."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of provado.yaml, for editors and CI."""
    from ..settings import Settings

    data = Settings.model_json_schema()
    data["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    data["title"] = "provado.yaml"
    click.echo(json.dumps(data, indent=1))

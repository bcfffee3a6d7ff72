"""Reads a board as Grafana's own schema has it, and prints what the schema does not know."""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def unknown(ours, read, path):
    """Paths in `ours` that did not survive."""
    if isinstance(ours, dict) and isinstance(read, dict):
        for name, value in ours.items():
            if name in read:
                yield from unknown(value, read[name], f"{path}.{name}")
            elif value is not None:
                yield f"{path}.{name}"
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for index, (one, other) in enumerate(zip(ours, read)):
            yield from unknown(one, other, f"{path}[{index}]")
    elif ours != read:
        yield f"{path}: {ours!r} is read as {read!r}"


register_default_plugins()
board = json.load(sys.stdin)
read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))
for path in unknown(board, read, "board"):
    print(path)

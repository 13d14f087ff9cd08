"""Instantiate a checked node."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def without(node: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The node less some keys: what is left are the target's arguments."""
    return {key: value for key, value in node.items() if key not in keys}


def build(node: dict[str, Any], **arguments: Any) -> Any:
    """Instantiate a checked node with plain values; the target's own error comes through."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise error.__cause__ or error from None

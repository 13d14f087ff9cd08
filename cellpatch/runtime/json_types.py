"""The type of what JSON files hold."""

from pydantic import JsonValue

Json = dict[str, JsonValue]

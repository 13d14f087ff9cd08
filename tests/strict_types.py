"""The type checker of the test run: beartype, with an int allowed where a float is annotated (PEP 484).

beartype does not read pydantic's recursive JsonValue: pydantic itself checks what is parsed as such.
"""

from beartype import BeartypeConf, FrozenDict, beartype
from pydantic import JsonValue

check = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({JsonValue: object})))

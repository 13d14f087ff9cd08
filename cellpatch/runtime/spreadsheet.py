"""CSV that spreadsheet programs show as it is: a text that begins as a formula does would be run by them."""

import re

import pandas as pd

# Not of signs alone, such as the - of a missing value.
_FORMULA = re.compile(r"'*[=+\-@\t][\s=+\-@]*[^\s=+\-@]", re.DOTALL)
_GUARDED = re.compile(r"'+[=+\-@\t]", re.DOTALL)


def guard(text: str) -> str:
    """The text with an apostrophe before what a spreadsheet would take for a formula; numbers stay as they are."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # pandas leaves a lone \r without quotes: it would end a row
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def unguard(text: str) -> str:
    """The text that `guard` was given."""
    return text[1:] if _GUARDED.match(text) else text


def csv_text(table: pd.DataFrame, separator: str = ",") -> str:
    """A table as CSV without its index; texts and the names of columns are guarded."""
    guarded = pd.DataFrame({number: _column(table.iloc[:, number]) for number in range(table.shape[1])})
    guarded.columns = pd.Index([guard(str(name)) for name in table.columns])
    return guarded.to_csv(index=False, sep=separator)


def _column(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        return values
    return values.astype(object).map(lambda value: guard(value) if isinstance(value, str) else value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

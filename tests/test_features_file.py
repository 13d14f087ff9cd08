"""GeoJSON that is read a feature at a time is what Python's parser reads as a whole."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellpatch.data.annotations import features
from cellpatch.data.annotations.features import Features, open_features
from cellpatch.data.annotations.files import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(VALUES, max_size=5),
    before=st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    after=st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    shape=st.sampled_from(["list", "collection"]),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    at_once=st.integers(1, 40),
)
def test_any_document(
    tmp_path: Path,
    found: list[Any],
    before: dict[str, Any],
    after: dict[str, Any],
    shape: str,
    indent: int | None,
    ascii_only: bool,
    at_once: int,
) -> None:
    members = before | after
    document = found if shape == "list" else before | {"features": found} | after
    file = tmp_path / "a.geojson"
    file.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(features, "_READ", at_once)
        opened = open_features(file)
        assert isinstance(opened, Features)
        for _ in range(2):
            assert list(opened) == found
    assert opened.members == (None if shape == "list" else members)


@pytest.mark.parametrize(
    "encode", [str.encode, lambda text: text.encode("utf-16"), lambda text: text.encode("utf-8-sig")]
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_encodings(tmp_path: Path, encode: Any, compress: Any) -> None:
    document = {"type": "FeatureCollection", "features": [{"id": "é"}, {"id": 10**20}], "crs": {"a": [1.5]}}
    file = tmp_path / "a.geojson"
    file.write_bytes(compress(encode(json.dumps(document, ensure_ascii=False))))
    opened = open_features(file)
    assert isinstance(opened, Features)
    assert list(opened) == document["features"]
    assert read_json(file) == document


@pytest.mark.parametrize(
    "document", ['{"type": "Feature"}', '{"features": 1}', "3", '"text"', '{"shapes": [], "imagePath": "a"}', "{}"]
)
def test_other_documents_are_read_as_a_whole(tmp_path: Path, document: str) -> None:
    (tmp_path / "a.json").write_text(document)
    assert open_features(tmp_path / "a.json") == json.loads(document)


@pytest.mark.parametrize(
    "text",
    [
        '{"features": [{"a": 1}, {"a" 2}]}',
        '{"features": [{"a": 1}',
        '{"features": [{"a": 1}] "b": 2}',
        '{"features": [{"a": 1},]}',
        '{"features": [{"a": 1}]} more',
        '{"features": [{"a": 1, "a": 2}]}',
        '{"a": 1, "features": [], "a": 2}',
        "[[[",
        "[" * 100_000,
        "",
        '[{"a": 1}',
    ],
)
def test_what_is_no_json_is_refused_as_by_python(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.geojson"
    file.write_text(text)
    with pytest.raises(ValueError, match="is not readable as JSON") as expected:
        read_json(file)
    with pytest.raises(ValueError, match="is not readable as JSON") as found:
        list(open_features(file))  # type: ignore[call-overload]
    assert str(found.value) == str(expected.value)


def test_features_that_stand_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"features": [{}], "features": [{}]}')
    with pytest.raises(ValueError, match="'features' has two values"):
        list(open_features(tmp_path / "a.json"))  # type: ignore[call-overload]


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.geojson"
    file.write_text("[{}]")
    opened = open_features(file)
    file.write_text("[{}, {}]")
    with pytest.raises(ValueError, match=r"a.geojson: was changed while it was in use"):
        list(opened)  # type: ignore[call-overload]

"""Values of Arrow as JSON and as people write them; what cannot be written says why.

pyarrow's own conversion raises for nanoseconds, unknown time zones, years beyond 9999
and names given twice, and knows neither UUIDs nor intervals of Parquet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import partial
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa

from router.jobs.input.readers.rows import Notes, ReadLimits, Unusable, usable_names

# Takes a scalar of Arrow; gives a JSON value, or `Unusable`.
Converter = Callable[[Any], object]

_DEEPEST = 32
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_PICTURES = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a WebP image or a sound"),
    (b"%PDF", "a PDF document"),
)


def converter(kind: pa.DataType, marks: Iterator[str], depth: int = 0) -> Converter:
    """Make what converts values of a type.

    marks: Parquet's logical type of each leaf in it, in order
    """
    if depth > _DEEPEST:
        return _nothing_for("lists and objects are nested too deep")

    def inside(kind: pa.DataType) -> Converter:
        return converter(kind, marks, depth + 1)

    if isinstance(kind, pa.BaseExtensionType):
        return _unwrapped(inside(kind.storage_type))
    for fits, made in _NESTED:
        if fits(kind):
            return made(kind, inside)
    return _flat(kind, next(marks, ""))


def _flat(kind: pa.DataType, mark: str) -> Converter:
    """Make the converter of a type without others in it."""
    if mark in _MARKED:
        return _given(_MARKED[mark])
    for fits, made in _FLAT:
        if fits(kind):
            return _given(made(kind))
    return _nothing_for(f"values of type {str(kind)[:40]!r} cannot be written")


def _given(convert: Converter) -> Converter:
    """Give null for null, and a reason for what cannot be converted."""

    def converted(value: Any) -> object:
        if not value.is_valid:
            return None
        try:
            return convert(value)
        except (ValueError, OverflowError, ArithmeticError):
            return Unusable("the value is out of range")

    return converted


def _nothing_for(reason: str) -> Converter:
    return lambda value: Unusable(reason) if value.is_valid else None


def _unwrapped(convert: Converter) -> Converter:
    def converted(value: Any) -> object:
        inner = value.value if value.is_valid else None
        return None if inner is None else convert(inner)

    return converted


def _struct(kind: pa.StructType, inside_of: Inside) -> Converter:
    fields = [kind.field(number) for number in range(kind.num_fields)]
    unlimited = ReadLimits(columns=10**9, name_characters=10**9)
    names = usable_names([field.name for field in fields], unlimited, Notes())
    inside = [inside_of(field.type) for field in fields]

    def converted(value: Any) -> object:
        if not value.is_valid:
            return None
        parts = zip(names, inside, strict=True)
        return {
            name: convert(value[number]) for number, (name, convert) in enumerate(parts)
        }

    return converted


def _list(inside: Converter) -> Converter:
    def converted(value: Any) -> object:
        return [inside(each) for each in value.values] if value.is_valid else None

    return converted


def _map(kind: pa.MapType, inside_of: Inside) -> Converter:
    """Give an object; a list of pairs where a key stands twice, as JSON has no such."""
    key, item = inside_of(kind.key_type), inside_of(kind.item_type)

    def converted(value: Any) -> object:
        if not value.is_valid:
            return None
        pairs = [(key(each[0]), item(each[1])) for each in value.values]
        made = {str(name): each for name, each in pairs}
        return made if len(made) == len(pairs) else [list(pair) for pair in pairs]

    return converted


def _number(value: Any) -> object:
    number = float(value.as_py())
    if number != number:  # noqa: PLR0124 - NaN: how tables write a missing number
        return None
    if not isfinite(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _bytes(value: Any) -> object:
    raw = value.as_buffer().to_pybytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        what = next((text for magic, text in _PICTURES if raw.startswith(magic)), "")
        size = f"{len(raw):,} bytes"
        return Unusable(f"binary data, {what + ', ' if what else ''}{size}, not text")


def _zone(name: str | None) -> tzinfo | None:
    """Return a time zone; UTC, in which times are kept, for one that nobody knows."""
    if name is None:
        return None
    if len(name) == 6 and name[0] in "+-":
        try:
            offset = timedelta(hours=int(name[1:3]), minutes=int(name[4:]))
            return timezone(-offset if name[0] == "-" else offset)
        except ValueError:
            return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def _timestamp(value: Any, unit: str, zone: tzinfo | None) -> object:
    seconds, fraction = divmod(value.value, _PER_SECOND[unit])
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        if zone is not None:
            moment = moment.astimezone(zone)
    except OverflowError:
        return Unusable("a time outside of the years 1 to 9999")
    text = moment.replace(tzinfo=None).isoformat() + _fraction(fraction, unit)
    return text if zone is None else text + _offset(moment)


def _offset(moment: datetime) -> str:
    return moment.isoformat()[len(moment.replace(tzinfo=None).isoformat()) :]


def _fraction(fraction: int, unit: str) -> str:
    if not fraction:
        return ""
    digits = f"{fraction:0{_DIGITS[unit]}d}"
    return "." + (digits if unit == "ns" and fraction % 1000 else digits[:6])


def _time(value: Any, unit: str) -> str:
    seconds, fraction = divmod(value.value, _PER_SECOND[unit])
    clock = time(seconds // 3600, seconds % 3600 // 60, seconds % 60)
    return clock.isoformat() + _fraction(fraction, unit)


def _duration(value: Any, unit: str) -> float:
    return float(value.value / _PER_SECOND[unit])


def _date(value: Any) -> object:
    days = value.value if value.type == pa.date32() else value.value // 86_400_000
    try:
        return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
    except OverflowError:
        return Unusable("a date outside of the years 1 to 9999")


def _interval(months: int, days: int, milliseconds: int) -> str:
    return _spelled(months, days, milliseconds / 1000)


def _month_day_nano(value: Any) -> str:
    months, days, nanoseconds = value.as_py()
    return _spelled(months, days, nanoseconds / 1e9)


def _spelled(months: int, days: int, seconds: float) -> str:
    parts = ((months, "months"), (days, "days"), (seconds, "seconds"))
    return ", ".join(f"{count:g} {word}" for count, word in parts if count) or "0 days"


# What converts a type, made of what converts those in it.
Inside = Callable[[pa.DataType], Converter]


def _as_it_is(_kind: pa.DataType) -> Converter:
    return lambda value: value.as_py()


_NESTED: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[Any, Inside], Converter]], ...
] = (
    (
        lambda kind: pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind),
        lambda kind, inside: _unwrapped(inside(kind.value_type)),
    ),
    (pa.types.is_struct, _struct),
    (pa.types.is_map, _map),
    (
        lambda kind: pa.types.is_nested(kind) and hasattr(kind, "value_type"),
        lambda kind, inside: _list(inside(kind.value_type)),
    ),
)
_MARKED: Mapping[str, Converter] = {
    "UUID": lambda value: str(UUID(bytes=value.as_py())),
    "INTERVAL": lambda value: _interval(*struct.unpack("<3I", value.as_py())),
}
_TEXTS = (
    *("is_string", "is_large_string", "is_string_view", "is_binary"),
    *("is_large_binary", "is_binary_view", "is_fixed_size_binary"),
)
_FLAT: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Converter]], ...] = (
    *((getattr(pa.types, name), lambda _: _bytes) for name in _TEXTS),
    (pa.types.is_floating, lambda _: _number),
    (pa.types.is_integer, _as_it_is),
    (pa.types.is_boolean, _as_it_is),
    (pa.types.is_null, lambda _: lambda _value: None),
    (pa.types.is_decimal, lambda _: lambda value: format(value.as_py(), "f")),
    (pa.types.is_date, lambda _: _date),
    (
        pa.types.is_timestamp,
        lambda kind: partial(_timestamp, unit=kind.unit, zone=_zone(kind.tz)),
    ),
    (pa.types.is_time, lambda kind: partial(_time, unit=kind.unit)),
    (pa.types.is_duration, lambda kind: partial(_duration, unit=kind.unit)),
    (pa.types.is_interval, lambda _: _month_day_nano),
)

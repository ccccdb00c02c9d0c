"""YAML from outside as plain values, of bounded size, and one kind of error for all that is wrong.

PyYAML itself raises many kinds: ValueError for 2001-99-99, AttributeError for ``!!timestamp x``,
RecursionError for a thousand brackets. And a few lines of anchors and aliases can stand for more
values than any memory holds, as soon as they are copied or printed.
"""

from typing import Any

import yaml

MOST_VALUES = 100_000  # with aliases written out
MOST_BITS = 1024  # of a whole number; a float has no more


def parse_yaml(text: str) -> Any:
    """The values of a text; yaml.YAMLError, in one line, where it is malformed or immense."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise yaml.YAMLError((str(error).splitlines() or ["malformed"])[0][:80]) from error
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    _check_size(content)
    return content


def _check_size(content: Any) -> None:
    values, count = [content], 0
    while values:
        value = values.pop()
        count += 1
        if count + len(values) > MOST_VALUES:
            raise yaml.YAMLError("too many values, with aliases written out")
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise yaml.YAMLError("a whole number of too many digits")
        if isinstance(value, dict):
            values += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            values += value

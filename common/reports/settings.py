"""A run's settings on a page: all of them folded away, or where several runs differ."""

from collections.abc import Sequence

import yaml

from common.pages.markup import Html, element, text

_SAME = ("training.out_dir",)  # differs between all runs and says nothing


def settings_block(settings: dict) -> Html:
    """All settings as YAML, to unfold."""
    written = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return element(
        "details",
        {"class": "settings", "open": ""},
        element("summary", {}, "All settings"),
        element("pre", {}, written),
    )


def differences(all_settings: Sequence[dict]) -> dict[str, list[str]]:
    """The keys whose values are not the same in all runs, and the value in each of them."""
    flat = [_flat(settings) for settings in all_settings]
    keys = dict.fromkeys(key for one in flat for key in one if key not in _SAME)
    rows = {key: [one.get(key, "–") for one in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def differences_table(names: Sequence[str], rows: dict[str, list[str]]) -> Html:
    """A row for each key, a column for each run."""
    heads = (element("th", {"scope": "col"}, element("bdi", {}, name)) for name in names)
    body = (
        element(
            "tr",
            {},
            element("th", {"scope": "row"}, element("code", {}, key)),
            *(element("td", {}, text(value)) for value in values),
        )
        for key, values in rows.items()
    )
    table = element(
        "table",
        {"class": "scores words"},
        element("thead", {}, element("tr", {}, element("td", {}), *heads)),
        element("tbody", {}, *body),
    )
    return element("div", {"class": "wide"}, table)


def _flat(settings: dict, before: str = "") -> dict[str, str]:
    """Nested settings under dotted keys."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = "none" if value is None else str(value)
    return found

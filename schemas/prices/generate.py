"""Converts the price data of genai-prices, and from litellm how much models
answer at most, into genai-prices.json beside this file.

    generate.py            writes the file
    generate.py --check    fails unless the file is what would be written

Needs both packages in exactly the versions named below. The output depends on
nothing else: same packages, same bytes. What it holds is told in README.md.
"""

import collections
import datetime
import decimal
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import pathlib
import re
import sys

sys.dont_write_bytecode = True
from sizes import Sizes, SIZES_VERSION  # noqa: E402 - nothing is left in the checkout

OUTPUT = pathlib.Path(__file__).with_name("genai-prices.json")

# A new version of the source means new values in all three lines.
SOURCE_VERSION = "0.2.3"
SOURCE_DATE = "2026-11-10"
DATA_SHA256 = "5f4d8e175a91cf23cac17da33a4daa60a6a6c49525109c97e93db220d5197206"

PICO_PER_DOLLAR = 10**12
MILLION = 10**6

# Bursar's meters, in the order in which they are written, by the source's name.
METERS = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "requests_kcount": "requests",
}

# What else the source prices, for readers that count it.
OTHER_METERS = {
    "cache_audio_read_mtok": "cache_read_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cache_read_image",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "output_citation_mtok": "output_citation",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "storage_search",
    "input_mchars": "input_character",
    "input_document_kpages": "input_page",
    "input_annotated_document_kpages": "input_annotated_page",
    "input_text_messages_kcount": "input_text_message",
}

# An hour's price is seldom a whole number of pico-dollars per second, and
# providers round durations up, each in its own way.
DURATIONS = {"audio_hours", "input_audio_hours"}

# A model is priced if one of these is: the rest only adds to them.
TOKENS = {"input", "output", "input_audio", "output_audio"}

# The parts of the regular expressions that are short lists of names in disguise.
SIMPLE_REGEX = re.compile(
    r"(?P<digits>\\d(?:\{(?P<count>\d+)\})?)|\((?P<optional>[^()?]+)\)\?"
    r"|\[(?P<set>-?[\w@]+)\]|\\(?P<escaped>[^\w\s])|(?P<plain>[\w/:@=-](?![*+?{]))"
)


class NotRepresented(Exception):
    """Why the form of the output has no place for a model's price."""


def pico_per_million(price, per):
    """A price in dollars per so many units, as pico-dollars per million units.

    Refused unless that is a whole number: nothing is ever rounded here.
    """
    if type(price) is not decimal.Decimal or not price.is_finite() or price < 0:
        raise ValueError(f"{price!r} is not a price")
    numerator, denominator = price.as_integer_ratio()
    pico, rest = divmod(numerator * PICO_PER_DOLLAR * MILLION, denominator * per)
    if rest:
        raise NotRepresented(f"{price} per {per} is not a whole number of pico-dollars per million")
    return str(pico)


class Source:
    """The installed package's data and types."""

    def __init__(self):
        try:
            version = importlib.metadata.version("genai-prices")
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        if version != SOURCE_VERSION:
            sys.exit(f"genai-prices {SOURCE_VERSION} is needed, found: {version}")
        data_file = pathlib.Path(importlib.util.find_spec("genai_prices.data").origin)
        if hashlib.sha256(data_file.read_bytes()).hexdigest() != DATA_SHA256:
            sys.exit(f"the data of genai-prices {SOURCE_VERSION} is not the known one")
        from genai_prices import data, data_units, types

        self.providers = data.providers
        self.types = types
        self.per = {unit["price_key"]: unit["per"] for unit in data_units.unit_data.values()}


# ---- Prices ----


def noon(day):
    """A moment within a day (UTC); no price begins or ends but at midnight."""
    return datetime.datetime.combine(day, datetime.time(12), datetime.UTC)


def start_dates(source, model):
    """The dates on which a price of the model begins, and one before them all."""
    conditions = [] if isinstance(model.prices, source.types.ModelPrice) else list(model.prices)
    conditions += model.price_variants or []
    dates = set()
    for condition in conditions:
        if isinstance(condition.constraint, source.types.StartDateConstraint):
            dates.add(condition.constraint.start_date)
        elif condition.constraint is not None:
            raise NotRepresented("the price depends on the time of day")
    return [None, *sorted(dates)]


def split_tiers(source, stored):
    """The base price of each key, and of each threshold what changes above it."""
    base, tiers = {}, collections.defaultdict(dict)
    for key, value in stored.items():
        if isinstance(value, source.types.TieredPrices):
            base[key] = value.base
            for tier in value.tiers:
                tiers[tier.start][key] = tier.price
        else:
            base[key] = value
    # The thresholds of different keys may differ: each tier repeats what the
    # lower ones changed, so that one tier alone says all.
    changed, cumulative = {}, []
    for start in sorted(tiers):
        changed = {**changed, **tiers[start]}
        cumulative.append((start, changed))
    return base, cumulative


def named(source, prices, names):
    """The prices of the given meters, in the order in which those are listed."""
    return {name: pico_per_million(prices[key], source.per[key]) for key, name in names.items() if key in prices}


def rates(source, model_price, hour_has_its_own=False):
    """The fields meters, other_meters and tiers of one set of prices."""
    stored = {key: value for key, value in model_price.__dict__.items() if value is not None}
    if not stored:
        raise NotRepresented("the source names no price")
    if stored.keys() & DURATIONS:
        raise NotRepresented("audio is priced by its duration")
    unknown = stored.keys() - METERS.keys() - OTHER_METERS.keys()
    if unknown:
        raise ValueError(f"prices of an unknown kind: {sorted(unknown)}")
    # The source's cache_write is what every write costs that has no price of
    # its own, which an hour's write need not have.
    if "cache_write_mtok" in stored and not hour_has_its_own:
        stored.setdefault("cache_write_1h_mtok", stored["cache_write_mtok"])
    base, tiers = split_tiers(source, stored)
    fields = {"meters": named(source, base, METERS)}
    if other := named(source, base, OTHER_METERS):
        fields["other_meters"] = other
    if tiers:
        fields["tiers"] = []
    for start, changed in tiers:
        if changed.keys() & OTHER_METERS.keys():
            raise ValueError("a tier of something that is not one of Bursar's meters")
        fields["tiers"].append({"above_input_tokens": start, "meters": named(source, changed, METERS)})
    return fields


def variants(source, model, at):
    """What differs for requests of a certain kind, in the order of precedence."""
    kinds = [tuple(sorted(variant.when.items())) for variant in model.price_variants or []]
    order = [kind for kind, _ in itertools.groupby(kinds)]
    if len(order) != len(set(order)):
        raise ValueError("variants of one kind are not side by side")
    hour_has_its_own = model.get_prices(at).cache_write_1h_mtok is not None
    found = []
    for kind in order:
        prices = {}
        for variant, its_kind in zip(model.price_variants or [], kinds, strict=True):
            if its_kind == kind and (variant.constraint is None or variant.constraint.active(at)):
                for key, value in variant.prices.__dict__.items():
                    if value is not None:
                        prices.setdefault(key, value)
        if prices:
            fields = rates(source, source.types.ModelPrice(**prices), hour_has_its_own)
            found.append({"when": dict(kind), **fields})
    return found


def periods(source, model):
    """The model's prices as consecutive periods, from inclusive, until exclusive."""
    dates = start_dates(source, model)
    result = []
    for begin, end in zip(dates, [*dates[1:], None], strict=True):
        # A day within the period; the first one reaches back without end.
        day = begin or (end or datetime.date(2000, 1, 1)) - datetime.timedelta(days=1)
        fields = rates(source, model.get_prices(noon(day)))
        if not fields["meters"].keys() & TOKENS:
            raise NotRepresented("it is not priced by tokens")
        if different := variants(source, model, noon(day)):
            fields["variants"] = different
        if result and result[-1][2] == fields:
            result[-1][1] = end
        else:
            result.append([begin, end, fields])
    return result


# ---- Names ----


def expand(regex):
    """Every text that the inside of a simple regular expression can match, with
    # for a digit; None where it is not as simple as that."""
    texts, position = [""], 0
    while position < len(regex):
        part = SIMPLE_REGEX.match(regex, position)
        if not part:
            return None
        if part["digits"]:
            choices = ["#" * int(part["count"] or 1)]
        elif part["optional"]:
            inner = expand(part["optional"])
            choices = inner and ["", *inner]
        else:
            choices = part["set"] or part["escaped"] or part["plain"]
        if not choices:
            return None
        texts = [text + choice for text in texts for choice in choices]
        position = part.end()
    return texts


def expand_regex(regex):
    """Exact names, name patterns and prefixes of a regular expression, or None."""
    if "#" in regex:
        raise ValueError(f"a name with a #: {regex}")
    whole = regex.endswith("$")
    texts = expand(regex.removeprefix("^").removesuffix("$"))
    if not regex.startswith("^") or texts is None:
        return None
    if whole:
        return [text for text in texts if "#" not in text], [text for text in texts if "#" in text], []
    # A prefix that ends in a digit is ten prefixes; none has one elsewhere.
    if any("#" in text[:-1] for text in texts):
        return None
    return [], [], [text[:-1] + end for text in texts for end in text[-1].replace("#", "0123456789")]


def names(source, model):
    """Aliases, prefixes and patterns of a model, and what of its matching they
    do not say. They never match a name that the source would not."""
    types = source.types
    aliases, prefixes, patterns, rest = set(), set(), set(), []
    clauses = model.match.or_ if isinstance(model.match, types.ClauseOr) else [model.match]
    for clause in clauses:
        if isinstance(clause, types.ClauseEquals):
            aliases.add(clause.equals)
        elif isinstance(clause, types.ClauseStartsWith):
            prefixes.add(clause.starts_with)
        elif isinstance(clause, types.ClauseContains):
            # What begins with a text contains it: a part of the truth.
            prefixes.add(clause.contains)
            rest.append(f"contains {clause.contains}")
        elif isinstance(clause, types.ClauseEndsWith):
            aliases.add(clause.ends_with)
            rest.append(f"ends with {clause.ends_with}")
        elif isinstance(clause, types.ClauseRegex) and (expanded := expand_regex(clause.regex)):
            aliases.update(expanded[0])
            patterns.update(expanded[1])
            prefixes.update(expanded[2])
        else:
            rest.append(describe(source, clause))
    aliases.discard(model.id)
    return sorted(aliases), sorted(prefixes), sorted(patterns), rest


def describe(source, clause):
    """A clause in words, for the list of what is not represented."""
    if isinstance(clause, source.types.ClauseAnd):
        return " and ".join(describe(source, part) for part in clause.and_)
    if isinstance(clause, source.types.ClauseOr):
        return " or ".join(describe(source, part) for part in clause.or_)
    ((kind, value),) = vars(clause).items()
    return f"{kind.replace('_', ' ')} {value}"


def check_names(prices):
    """Fails where two models of a provider have a name, prefix or pattern in common."""
    owners = {}
    for entry in prices:
        for kind, texts in (
            ("name", [entry["model"], *entry["aliases"]]),
            ("prefix", entry["prefixes"]),
            ("pattern", entry.get("patterns", [])),
        ):
            for text in texts:
                key = entry["provider"], kind, text.lower()
                if owners.setdefault(key, entry["model"]) != entry["model"]:
                    raise ValueError(f"{key} is of two models: {owners[key]}, {entry['model']}")


# ---- The file ----


def convert(source, sizes):
    """The whole table."""
    prices, not_represented = [], []
    for provider in source.providers:
        for model in provider.models:
            head = {"provider": provider.id, "model": model.id}
            try:
                its_periods = periods(source, model)
            except NotRepresented as reason:
                not_represented.append({**head, "what": "price", "reason": str(reason)})
                continue
            aliases, prefixes, patterns, rest = names(source, model)
            if rest:
                not_represented.append({**head, "what": "match", "reason": "; ".join(rest)})
            for begin, end, fields in its_periods:
                entry = {**head, "aliases": aliases, "prefixes": prefixes}
                if patterns:
                    entry["patterns"] = patterns
                entry["from"] = begin and begin.isoformat()
                entry["until"] = end and end.isoformat()
                entry["context_window"] = model.context_window
                by_name = {name: sizes.most(provider.id, name) for name in (model.id, *aliases)}
                known = [most for most in by_name.values() if most]
                entry["max_output"] = by_name[model.id] or min(known, default=None)
                different = {name: most for name, most in by_name.items() if most not in (None, entry["max_output"])}
                if different:
                    entry["alias_max_output"] = different
                prices.append({**entry, **fields})
    prices.sort(key=lambda entry: (entry["provider"], entry["model"], entry["from"] or ""))
    not_represented.sort(key=lambda entry: (entry["provider"], entry["model"], entry["what"]))
    check_names(prices)
    return {
        "source": "genai-prices",
        "source_version": SOURCE_VERSION,
        "date": SOURCE_DATE,
        "sizes_source": "litellm",
        "sizes_version": SIZES_VERSION,
        "fallback_providers": {
            provider.id: provider.fallback_model_providers
            for provider in sorted(source.providers, key=lambda provider: provider.id)
            if provider.fallback_model_providers
        },
        "prices": prices,
        "not_represented": not_represented,
    }


def text_of(table):
    """The table as JSON with one entry per line, so that a change shows as one."""
    members = []
    for key, value in table.items():
        shown = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            entries = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in value)
            shown = "[\n" + ",\n".join(entries) + "\n]"
        members.append(f"{json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def main(arguments):
    text = text_of(convert(Source(), Sizes()))
    if arguments == ["--check"]:
        if OUTPUT.read_text(encoding="utf-8") != text:
            sys.exit(f"{OUTPUT.name} is not what generate.py writes")
    elif arguments:
        sys.exit(__doc__)
    else:
        OUTPUT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

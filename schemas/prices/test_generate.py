"""Compares genai-prices.json with the calculation of the package that it comes from.

test_generate.py, with a Python that has the package (README.md says how).
"""

import datetime
import decimal
import json
import random
import sys
import unittest

sys.dont_write_bytecode = True
import generate  # noqa: E402 - after the switch, so that nothing is left in the checkout
import genai_prices  # noqa: E402
from genai_prices import data, types  # noqa: E402

TABLE = json.loads(generate.OUTPUT.read_text(encoding="utf-8"))
PROVIDERS = {provider.id: provider for provider in data.providers}
MODELS = {(provider.id, model.id): model for provider in data.providers for model in provider.models}
PICO = decimal.Decimal(10**12)
INPUT_METERS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio")


def entry_at(provider, model, day):
    """The one entry of a model that is in force on a day."""
    found = [
        entry
        for entry in TABLE["prices"]
        if (entry["provider"], entry["model"]) == (provider, model)
        and (entry["from"] is None or entry["from"] <= day)
        and (entry["until"] is None or day < entry["until"])
    ]
    assert len(found) == 1, found
    return found[0]


def resolve(provider, name):
    """The model that a name means by the rules of README.md, or None."""
    name = name.lower()
    entries = [entry for entry in TABLE["prices"] if entry["provider"] == provider]
    for entry in entries:
        if name in [known.lower() for known in (entry["model"], *entry["aliases"])]:
            return entry["model"]
    shape = "".join("#" if letter in "0123456789" else letter for letter in name)
    for entry in entries:
        for pattern in entry.get("patterns", []):
            mask = zip(pattern.lower(), name, shape, strict=False)
            if len(pattern) == len(name) and all(want in (is_, like) for want, is_, like in mask):
                return entry["model"]
    longest = max(
        ((len(prefix), entry["model"]) for entry in entries for prefix in entry["prefixes"]
         if name.startswith(prefix.lower())),
        default=(0, None),
    )  # fmt: skip
    return longest[1]


def price_of(entry, meter, input_tokens, when=None):
    """Pico-dollars per million of a meter, by the rules of README.md."""
    layers = [variant for variant in entry.get("variants", []) if variant["when"] == when] + [entry]
    for name in (meter, {"reasoning": "output"}.get(meter, "input")):
        for layer in layers:
            if name in layer["meters"]:
                passed = [t for t in layer.get("tiers", []) if input_tokens > t["above_input_tokens"]]
                tier = passed[-1]["meters"] if passed else {}
                return decimal.Decimal(tier.get(name, layer["meters"][name]))
    raise AssertionError(f"no price for {meter}")


def cost(entry, usage, when=None):
    """The cost in dollars of disjoint meters."""
    input_tokens = sum(usage.get(meter, 0) for meter in INPUT_METERS)
    total = sum(price_of(entry, meter, input_tokens, when) * count for meter, count in usage.items()) + decimal.Decimal(
        entry["meters"].get("requests", "0")
    )
    return total / 10**6 / PICO


def package_cost(entry, usage, day, when=None):
    """The same by genai_prices, which counts meters within each other."""
    get = usage.get
    model = MODELS[entry["provider"], entry["model"]]
    counts = types.Usage(
        input_tokens=sum(get(meter, 0) for meter in INPUT_METERS),
        cache_read_tokens=get("cache_read", 0),
        cache_write_tokens=get("cache_write_5m", 0) + get("cache_write_1h", 0),
        cache_write_5m_tokens=get("cache_write_5m", 0),
        cache_write_1h_tokens=get("cache_write_1h", 0),
        input_audio_tokens=get("input_audio", 0),
        output_tokens=get("output", 0) + get("reasoning", 0) + get("output_audio", 0),
        output_reasoning_tokens=get("reasoning", 0),
        output_audio_tokens=get("output_audio", 0),
        **dict.fromkeys(NEVER_COUNTED, 0),
    )
    at = datetime.datetime.fromisoformat(day + "T06:30:00+00:00")
    provider = PROVIDERS[entry["provider"]]
    return model.calc_price(counts, provider, genai_request_timestamp=at, price_context=when).total_price


NEVER_COUNTED = (
    "cache_audio_read_tokens", "input_image_tokens", "output_image_tokens", "cache_image_read_tokens",
    "input_video_tokens", "output_video_tokens", "output_citation_tokens", "web_searches", "storage_searches",
)  # fmt: skip


def random_usage(chance, entry, size):
    """Usage with so many input tokens, on meters that the entry can price."""
    meters = entry["meters"]
    usage = {}
    if "input" in meters:
        others = [meter for meter in INPUT_METERS[1:] if meter != "input_audio" or meter in meters]
        usage = {meter: chance.randrange(size // len(others) + 1) for meter in others}
        usage["input"] = size - sum(usage.values())
    if "output" in meters:
        usage |= {"output": chance.randrange(10**6), "reasoning": chance.randrange(10**4)}
    if "output_audio" in meters:
        usage["output_audio"] = chance.randrange(10**4)
    return usage


def days_of(entry):
    """The first and the last day of an entry, or days near its only end."""
    day = datetime.timedelta(days=1)
    first = datetime.date.fromisoformat(entry["from"]) if entry["from"] else None
    last = datetime.date.fromisoformat(entry["until"]) - day if entry["until"] else None
    any_day = first or last or datetime.date(2026, 6, 1)
    return (first or any_day - 500 * day).isoformat(), (last or any_day + 500 * day).isoformat()


class Prices(unittest.TestCase):
    def test_the_file_is_what_the_generator_writes(self):
        written = generate.text_of(generate.convert(generate.Source(), generate.Sizes()))
        # Not assertEqual, which would spend minutes on showing the difference.
        self.assertTrue(generate.OUTPUT.read_text(encoding="utf-8") == written, "run generate.py")

    def test_published_prices(self):
        """Dollars per million as the providers publish them."""
        published = [
            ("openai", "gpt-4o-mini", {"input": "0.15", "cache_read": "0.075", "output": "0.60"}),
            ("openai", "gpt-4o", {"input": "2.50", "cache_read": "1.25", "output": "10"}),
            ("anthropic", "claude-sonnet-4-5",
             {"input": "3", "cache_read": "0.30", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"}),
            ("google", "gemini-2.5-pro", {"input": "1.25", "output": "10"}),
            ("groq", "llama-3.3-70b-versatile", {"input": "0.59", "output": "0.79"}),
        ]  # fmt: skip
        for provider, model, dollars in published:
            meters = entry_at(provider, model, "2026-06-01")["meters"]
            for meter, price in dollars.items():
                self.assertEqual(meters[meter], str(int(decimal.Decimal(price) * PICO)), (model, meter))
        above = entry_at("google", "gemini-2.5-pro", "2026-06-01")["tiers"]
        self.assertEqual([tier["above_input_tokens"] for tier in above], [200_000])
        self.assertEqual(above[0]["meters"]["input"], "2500000000000")

    def test_every_price_is_the_one_of_the_package(self):
        """Random usage, below, at and above each threshold, on both ends of each period."""
        chance = random.Random(2026)
        compared = 0
        for entry in TABLE["prices"]:
            kinds = [None] + [variant["when"] for variant in entry.get("variants", [])]
            layers = [entry, *entry.get("variants", [])]
            sizes = {1, 1000} | {
                tier["above_input_tokens"] + more
                for layer in layers
                for tier in layer.get("tiers", [])
                for more in (0, 1)
            }
            for size in sizes:
                usage = random_usage(chance, entry, size)
                for day in days_of(entry):
                    for when in kinds:
                        with self.subTest(entry["provider"], model=entry["model"], usage=usage, day=day, when=when):
                            self.assertEqual(cost(entry, usage, when), package_cost(entry, usage, day, when))
                            compared += 1
        self.assertGreater(compared, 10_000)

    def test_every_model_is_priced_without_a_gap_or_listed(self):
        listed = {(gone["provider"], gone["model"]) for gone in TABLE["not_represented"] if gone["what"] == "price"}
        by_model = {}
        for entry in TABLE["prices"]:
            by_model.setdefault((entry["provider"], entry["model"]), []).append(entry)
        self.assertEqual(by_model.keys() & listed, set())
        self.assertEqual(by_model.keys() | listed, MODELS.keys())
        for periods in by_model.values():
            self.assertIsNone(periods[0]["from"])
            self.assertIsNone(periods[-1]["until"])
            for earlier, later in zip(periods, periods[1:], strict=False):
                self.assertEqual(earlier["until"], later["from"])
                self.assertTrue(earlier["from"] is None or earlier["from"] < later["from"])


class Names(unittest.TestCase):
    def test_names_mean_the_model_that_the_package_finds(self):
        compared = 0
        for entry in TABLE["prices"]:
            if entry["until"] is not None:
                continue
            provider = entry["provider"]
            names = set(entry["aliases"])
            for prefix in entry["prefixes"]:
                names |= {prefix, prefix + "-20261102", prefix + "-2026-11-02", prefix + "-latest", prefix + "x"}
            names |= {pattern.replace("#", digit) for pattern in entry.get("patterns", []) for digit in "07"}
            for name in names:
                found = PROVIDERS[provider].find_model(name)
                with self.subTest(provider, name=name):
                    self.assertEqual(resolve(provider, name), found and found.id)
                    compared += 1
            self.assertEqual(resolve(provider, entry["model"]), entry["model"])
        self.assertGreater(compared, 3_000)

    def test_dated_names_of_well_known_models(self):
        for provider, name, model in [
            ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("openai", "gpt-6-sol-2026-09-01", "gpt-6-sol"),
            ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("anthropic", "claude-opus-5-5-20260901", "claude-opus-5-5"),
            ("google", "gemini-3.5-flash-001", "gemini-3.5-flash"),
        ]:
            self.assertEqual(resolve(provider, name), model, name)
        self.assertIsNone(resolve("anthropic", "claude-opus-5-5-2026090a"))
        self.assertIsNone(resolve("openai", "gpt-99"))

    def test_only_simple_expressions_become_names(self):
        self.assertEqual(generate.expand_regex(r"^a\.b-\d{2}$"), ([], ["a.b-##"], []))
        self.assertEqual(generate.expand_regex(r"^(x/)?a(-\d)?$"), (["a", "x/a"], ["a-#", "x/a-#"], []))
        self.assertEqual(generate.expand_regex(r"^a[-@]b$"), (["a-b", "a@b"], [], []))
        self.assertEqual(generate.expand_regex(r"^a-\d")[2], [f"a-{digit}" for digit in range(10)])
        for regex in (r"a$", r"^a.*$", r"^a+$", r"^[a-z]$", r"^(?!b)a", r"^a\w$", r"^a|b$", r"^\d-a", r"^a$b"):
            self.assertIsNone(generate.expand_regex(regex), regex)


class Exactness(unittest.TestCase):
    def test_a_price_is_never_rounded(self):
        self.assertEqual(generate.pico_per_million(decimal.Decimal("0.15"), 10**6), "150000000000")
        self.assertEqual(generate.pico_per_million(decimal.Decimal("10"), 10**3), "10000000000000000")
        self.assertEqual(generate.pico_per_million(decimal.Decimal("0.000000000001"), 10**6), "1")
        for price in ("0.0000000000001", "0.18000000000000002"):
            with self.assertRaises(generate.NotRepresented):
                generate.pico_per_million(decimal.Decimal(price), 10**6)
        for price in (0.15, decimal.Decimal(-1), decimal.Decimal("NaN")):
            with self.assertRaises(ValueError):
                generate.pico_per_million(price, 10**6)


if __name__ == "__main__":
    assert genai_prices.__version__ == generate.SOURCE_VERSION
    unittest.main(verbosity=2)

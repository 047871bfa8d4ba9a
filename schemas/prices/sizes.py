"""How much models answer at most, by the model table of litellm. The package is read, never run."""

import collections
import hashlib
import importlib.metadata
import importlib.util
import json
import pathlib
import sys

# A new version means new values in both lines.
SIZES_VERSION = "1.109.1"
SIZES_SHA256 = "8f8060d8ce7a40c91b995c74d6a27657543d49e3c1c53430dabd556f244392c6"

# Its names of genai-prices' providers, where they differ.
SIZES_PROVIDERS = {
    "aws": ["bedrock", "bedrock_converse"],
    "cohere": ["cohere", "cohere_chat"],
    "fireworks": ["fireworks_ai"],
    "google": ["gemini", "vertex_ai-language-models", "vertex_ai-anthropic_models"],
    "moonshotai": ["moonshot"],
    "together": ["together_ai"],
    "x-ai": ["xai"],
}


class Sizes:
    """The most output tokens of models, by provider and name."""

    def __init__(self):
        try:
            version = importlib.metadata.version("litellm")
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        if version != SIZES_VERSION:
            sys.exit(f"litellm {SIZES_VERSION} is needed, found: {version}")
        package = pathlib.Path(importlib.util.find_spec("litellm").origin).parent
        data = (package / "model_prices_and_context_window_backup.json").read_bytes()
        if hashlib.sha256(data).hexdigest() != SIZES_SHA256:
            sys.exit(f"the data of litellm {SIZES_VERSION} is not the known one")
        self.of = collections.defaultdict(dict)
        for name, model in json.loads(data).items():
            most = model.get("max_output_tokens")
            if isinstance(most, int) and most > 0:
                short = name.split("/", 1)[1] if "/" in name else name
                self.of[model.get("litellm_provider")].setdefault(short.lower(), set()).add(most)

    def most(self, provider, name):
        """The least that is said of a name: a cap above what a model takes is an error."""
        providers = SIZES_PROVIDERS.get(provider, [provider])
        return min(set().union(*(self.of[its].get(name.lower(), set()) for its in providers)), default=None)

"""The official OpenAI SDK through the shim: streaming and not, sync and async, chat and embeddings, refusals.

usage: sdk.py BASE_URL KEY_WITH_MONEY KEY_WITHOUT_MONEY MODEL EMBEDDING_MODEL

Exits non-zero with a message when anything differs from what an application would expect of OpenAI itself.
"""

import asyncio
import sys

import openai

TEXT = "stand-in prompt_tokens=20 completion_tokens=7 " + "padding " * 20


def check(condition: bool, what: str) -> None:
    if not condition:
        sys.exit(f"the SDK saw something else: {what}")


def chat(client, model, **more):
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": TEXT}], max_tokens=50, **more
    )


def read_stream(chunks) -> tuple[int, object]:
    """Number of chunks with text, and the usage if a chunk carried it."""
    texts, usage = 0, None
    for chunk in chunks:
        texts += any(choice.delta.content for choice in chunk.choices)
        usage = chunk.usage or usage
    return texts, usage


def sync_client(base: str, key: str, model: str, embedding: str) -> None:
    with openai.OpenAI(base_url=base, api_key=key) as client:
        answer = chat(client, model)
        check(answer.usage.prompt_tokens == 20 and answer.usage.completion_tokens == 7, f"usage {answer.usage}")
        check(bool(answer.choices[0].message.content), "an empty answer")
        texts, usage = read_stream(chat(client, model, stream=True))
        check(texts > 0 and usage is None, f"{texts} texts, usage {usage} though it was not asked for")
        texts, usage = read_stream(chat(client, model, stream=True, stream_options={"include_usage": True}))
        check(texts > 0 and usage is not None and usage.completion_tokens == 7, f"{texts} texts, usage {usage}")
        names = [found.id for found in client.models.list()]
        check(model in names, f"models {names}")
        vectors = client.embeddings.create(model=embedding, input=[TEXT, TEXT])
        check(len(vectors.data) == 2 and vectors.usage.prompt_tokens > 0, f"embeddings {vectors.usage}")


async def async_client(base: str, key: str, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=base, api_key=key) as client:
        answers = await asyncio.gather(*(chat(client, model) for _ in range(8)))
        check(all(answer.usage.completion_tokens == 7 for answer in answers), "async usage")
        texts = 0
        async for chunk in await chat(client, model, stream=True):
            texts += any(choice.delta.content for choice in chunk.choices)
        check(texts > 0, "an empty async stream")


def refusals(base: str, poor: str, model: str) -> None:
    with openai.OpenAI(base_url=base, api_key=poor) as client:
        try:
            chat(client, model)
            check(False, "an answer though the money is spent")
        except openai.RateLimitError as error:
            check(error.code == "budget_exceeded" and error.type == "insufficient_quota", f"{error.code} {error.type}")
            check(error.response.headers["x-should-retry"] == "false", "no x-should-retry: false")
    with openai.OpenAI(base_url=base, api_key="bsk-unknown", max_retries=0) as client:
        try:
            chat(client, model)
            check(False, "an answer to an unknown key")
        except openai.AuthenticationError:
            pass


def main(base: str, key: str, poor: str, model: str, embedding: str) -> None:
    sync_client(base, key, model, embedding)
    asyncio.run(async_client(base, key, model))
    refusals(base, poor, model)
    print(f"openai {openai.__version__}: as expected")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])

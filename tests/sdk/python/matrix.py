"""What every client can do with every provider's models, written as rows of JSON for the matrix of the README; and
refusals and counts of tokens in Anthropic's and Google's SDKs. See ../README.md.
"""

import json
import os

import anthropic
from clients import KEYS, MODELS, ROOT, anthropic_sdk, expect, google_sdk, langchain_chat, openai_sdk
from google import genai
from google.genai import errors, types


def refusals():
    for name, kind, code in [
        ("revoked", anthropic.AuthenticationError, "key_revoked"),
        ("disabled", anthropic.PermissionDeniedError, "key_disabled"),
        ("daily_zero", anthropic.RateLimitError, "daily_calls_exhausted"),
        ("empty_balance", anthropic.APIStatusError, "balance_exhausted"),
    ]:
        client = anthropic.Anthropic(base_url=ROOT, api_key=KEYS[name])
        question = [{"role": "user", "content": "hello"}]
        try:
            client.messages.create(model="claude-sonnet-4-5", max_tokens=50, messages=question)
            raise AssertionError(f"{name} was answered")
        except kind as refused:
            expect(f"anthropic {name}", refused.body["error"]["code"], code)
        client = genai.Client(api_key=KEYS[name], http_options=types.HttpOptions(base_url=ROOT))
        try:
            client.models.generate_content(model="gemini-2.5-flash", contents="hello")
            raise AssertionError(f"{name} was answered")
        except errors.ClientError as refused:
            expect(f"google {name}", refused.details["error"]["details"][0]["reason"], code)


def counts():
    """What a request is in tokens, before it is sent and as it is told with the answer."""
    client = anthropic.Anthropic(base_url=ROOT, api_key=KEYS["healthy"], max_retries=0)
    google = genai.Client(api_key=KEYS["healthy"], http_options=types.HttpOptions(base_url=ROOT))
    question = [{"role": "user", "content": "hello"}]
    for model in MODELS:
        raw = client.messages.with_raw_response.count_tokens(model=model, system="Be brief.", messages=question)
        counted = raw.parse().input_tokens
        answer = client.messages.create(model=model, max_tokens=50, system="Be brief.", messages=question)
        by_anthropic = model == "claude-sonnet-4-5"
        expect("who counted", raw.headers["x-tallygate-count"], "upstream" if by_anthropic else "estimated")
        if by_anthropic:
            expect("anthropic count", counted, answer.usage.input_tokens)
        assert counted > 0, counted
        counted = google.models.count_tokens(model=model, contents="hello").total_tokens
        answer = google.models.generate_content(model=model, contents="hello")
        if model == "gemini-2.5-flash":
            expect("google count", counted, answer.usage_metadata.prompt_token_count)
        assert counted > 0, counted


def models():
    """Listed page by page, and one by one, as each SDK reads them."""
    client = anthropic.Anthropic(base_url=ROOT, api_key=KEYS["healthy"])
    google = genai.Client(api_key=KEYS["healthy"], http_options=types.HttpOptions(base_url=ROOT))
    listed = [model.id for model in client.models.list(limit=3)]
    assert set(MODELS) <= set(listed) and len(listed) == len(set(listed)), listed
    named = [model.name for model in google.models.list(config={"page_size": 3})]
    expect("google's list", named, [f"models/{name}" for name in listed])
    for model in MODELS:
        one = client.models.retrieve(model)
        expect("anthropic model", (one.type, one.id, one.created_at.year > 2000), ("model", model, True))
        one = google.models.get(model=model)
        expect("google model", (one.name, "generateContent" in one.supported_actions), (f"models/{model}", True))


refusals()
counts()
models()
with open(os.environ["RESULTS"], "a", encoding="utf-8") as results:
    for module in (openai_sdk, anthropic_sdk, google_sdk, langchain_chat):
        for client in module.CLIENTS:
            for row in client.rows():
                results.write(json.dumps(row) + "\n")
print("clients in Python: ok")

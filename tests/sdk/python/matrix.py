"""What every client can do with every provider's models, written as rows of JSON for the matrix of the README; and
refusals as the exceptions of Anthropic's and Google's SDKs. See ../README.md.
"""

import json
import os

import anthropic
from clients import KEYS, ROOT, anthropic_sdk, expect, google_sdk, langchain_chat, openai_sdk
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


refusals()
with open(os.environ["RESULTS"], "a", encoding="utf-8") as results:
    for module in (openai_sdk, anthropic_sdk, google_sdk, langchain_chat):
        for client in module.CLIENTS:
            for row in client.rows():
                results.write(json.dumps(row) + "\n")
print("clients in Python: ok")

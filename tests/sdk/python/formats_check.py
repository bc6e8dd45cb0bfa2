"""Anthropic's and Google's official SDKs against a demo: every client's format to every provider's, whole and streamed,
with tools and pictures, and refusals as their own exceptions.

BASE_URL (up to /v1) and KEYS (JSON, name to key) come from the environment. Ends with 0 when everything held."""

import json
import os

import anthropic
from google import genai
from google.genai import errors, types

ROOT = os.environ["BASE_URL"].removesuffix("/v1")
KEYS = json.loads(os.environ["KEYS"])
MODELS = ["gpt-5-mini", "deepseek-chat", "claude-sonnet-4-5", "gemini-2.5-flash"]
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"echo": {"type": "string"}}}


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r}, expected {wanted!r}"


def with_anthropic(model):
    client = anthropic.Anthropic(base_url=ROOT, api_key=KEYS["healthy"])
    asked = {"model": model, "max_tokens": 200}
    said = client.messages.create(messages=[{"role": "user", "content": "hello"}], **asked)
    expect(f"anthropic {model} text", said.content[0].text, "echo: hello")
    expect(f"anthropic {model} end", said.stop_reason, "end_turn")
    assert said.usage.input_tokens > 0 and said.usage.output_tokens > 0
    with client.messages.stream(messages=[{"role": "user", "content": "hello"}], **asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    expect(f"anthropic {model} stream", text, "echo: hello")
    expect(f"anthropic {model} stream usage", final.usage.output_tokens, said.usage.output_tokens)
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    question = {"role": "user", "content": "#tool please"}
    called = client.messages.create(messages=[question], tools=tools, **asked)
    call = next(block for block in called.content if block.type == "tool_use")
    expect(f"anthropic {model} tool", call.input, {"echo": "#tool please"})
    expect(f"anthropic {model} tool end", called.stop_reason, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    back = [question, {"role": "assistant", "content": called.content}]
    back.append({"role": "user", "content": [result, {"type": "text", "text": "and now"}]})
    answer = client.messages.create(messages=back, tools=tools, **asked)
    expect(f"anthropic {model} result", answer.content[0].text, "echo: and now")
    if model != "deepseek-chat":
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        content = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
        seen = client.messages.create(messages=[{"role": "user", "content": content}], **asked)
        expect(f"anthropic {model} picture", seen.content[0].text, "echo: see [1 image(s)]")


def with_google(model):
    client = genai.Client(api_key=KEYS["healthy"], http_options=types.HttpOptions(base_url=ROOT))
    said = client.models.generate_content(model=model, contents="hello")
    expect(f"google {model} text", said.text, "echo: hello")
    expect(f"google {model} end", said.candidates[0].finish_reason, types.FinishReason.STOP)
    assert said.usage_metadata.prompt_token_count > 0 and said.usage_metadata.candidates_token_count > 0
    pieces = list(client.models.generate_content_stream(model=model, contents="hello"))
    expect(f"google {model} stream", "".join(piece.text or "" for piece in pieces), "echo: hello")
    assert pieces[-1].usage_metadata.total_token_count > 0
    function = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    called = client.models.generate_content(model=model, contents="#tool please", config=config)
    call = called.function_calls[0]
    expect(f"google {model} tool", (call.name, call.args), ("weather", {"echo": "#tool please"}))
    if model != "deepseek-chat":
        import base64

        picture = types.Part.from_bytes(data=base64.b64decode(PICTURE), mime_type="image/png")
        seen = client.models.generate_content(model=model, contents=["see", picture])
        expect(f"google {model} picture", seen.text, "echo: see [1 image(s)]")


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


for model in MODELS:
    with_anthropic(model)
    with_google(model)
refusals()
print("formats: ok")

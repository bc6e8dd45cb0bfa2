"""OpenAI's own SDK: its chats and its responses."""

import json

from openai import OpenAI

from . import AFTER_TOOL, CALLED, KEY, PICTURE_URL, ROOT, SAID, SCHEMA, SEEN, Client, expect, of_open_ai

client = OpenAI(base_url=f"{ROOT}/v1", api_key=KEY, max_retries=0)
chats = client.chat.completions
HELLO = [{"role": "user", "content": "hello"}]
QUESTION = {"role": "user", "content": "#tool please"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def chat(model):
    said = chats.create(model=model, messages=[{"role": "system", "content": "Be brief."}, *HELLO])
    expect("text", said.choices[0].message.content, SAID)
    expect("end", said.choices[0].finish_reason, "stop")
    expect("usage", said.usage.total_tokens, said.usage.prompt_tokens + said.usage.completion_tokens)


def stream(model):
    asked = {"model": model, "messages": HELLO, "stream_options": {"include_usage": True}}
    with chats.stream(**asked) as events:
        final = events.until_done().get_final_completion()
    expect("text", final.choices[0].message.content, SAID)
    assert final.usage.completion_tokens > 0, final


def tools(model):
    asked = {"model": model, "tools": [TOOL]}
    message = chats.create(messages=[QUESTION], **asked).choices[0].message
    call = message.tool_calls[0]
    expect("call", json.loads(call.function.arguments), CALLED)
    with chats.stream(messages=[QUESTION], **asked) as events:
        streamed = events.until_done().get_final_completion().choices[0].message
    expect("streamed call", json.loads(streamed.tool_calls[0].function.arguments), CALLED)
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    answer = chats.create(messages=[QUESTION, message, result], **asked)
    expect("after the tool", answer.choices[0].message.content, AFTER_TOOL)


def vision(model):
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PICTURE_URL}}]
    seen = chats.create(model=model, messages=[{"role": "user", "content": parts}])
    expect("picture", seen.choices[0].message.content, SEEN)


def schema(model):
    shape = {"name": "answer", "schema": SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": shape}
    answer = chats.create(model=model, messages=HELLO, response_format=wanted)
    expect("JSON", json.loads(answer.choices[0].message.content), {"echo": "hello"})


FEATURES = {"chat": chat, "stream": stream, "tools": tools, "vision": vision, "schema": schema}
CLIENTS = [Client("OpenAI SDK (Python)", FEATURES, of_open_ai)]

"""Anthropic's own SDK."""

import json

from anthropic import Anthropic

from . import AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, Client, expect, of_anthropic

messages = Anthropic(base_url=ROOT, api_key=KEY, max_retries=0).messages
HELLO = [{"role": "user", "content": "hello"}]
QUESTION = {"role": "user", "content": "#tool please"}
TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


def text_of(message):
    return next(block.text for block in message.content if block.type == "text")


def call_of(message):
    return next(block for block in message.content if block.type == "tool_use")


def chat(model):
    said = messages.create(model=model, max_tokens=200, system="Be brief.", messages=HELLO)
    expect("text", text_of(said), SAID)
    expect("end", said.stop_reason, "end_turn")
    assert said.usage.input_tokens > 0 and said.usage.output_tokens > 0, said.usage


def stream(model):
    with messages.stream(model=model, max_tokens=200, messages=HELLO) as events:
        expect("text", "".join(events.text_stream), SAID)
        assert events.get_final_message().usage.output_tokens > 0


def tools(model):
    asked = {"model": model, "max_tokens": 200, "tools": TOOLS}
    called = messages.create(messages=[QUESTION], **asked)
    expect("call", call_of(called).input, CALLED)
    expect("end", called.stop_reason, "tool_use")
    with messages.stream(messages=[QUESTION], **asked) as events:
        expect("streamed call", call_of(events.get_final_message()).input, CALLED)
    result = {"type": "tool_result", "tool_use_id": call_of(called).id, "content": "rain"}
    back = [QUESTION, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    expect("after the tool", text_of(messages.create(messages=back, **asked)), AFTER_TOOL)


def vision(model):
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    content = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
    seen = messages.create(model=model, max_tokens=200, messages=[{"role": "user", "content": content}])
    expect("picture", text_of(seen), SEEN)


def schema(model):
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = messages.create(model=model, max_tokens=200, messages=HELLO, output_config=wanted)
    expect("JSON", json.loads(text_of(answer)), {"echo": "hello"})


FEATURES = {"chat": chat, "stream": stream, "tools": tools, "vision": vision, "schema": schema}
CLIENTS = [Client("Anthropic SDK (Python)", FEATURES, of_anthropic)]

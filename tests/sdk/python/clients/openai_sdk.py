"""OpenAI's own SDK: its chats and its responses."""

import json

from openai import OpenAI

from . import AFTER_TOOL, CALLED, KEY, PICTURE_URL, ROOT, SAID, SCHEMA, SEEN, Client, expect, of_open_ai

client = OpenAI(base_url=f"{ROOT}/v1", api_key=KEY, max_retries=0)
chats, responses = client.chat.completions, client.responses
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


def response(model):
    said = responses.create(model=model, instructions="Be brief.", input="hello", max_output_tokens=200)
    expect("text", (said.output_text, said.status), (SAID, "completed"))
    assert said.usage.input_tokens > 0 and said.usage.output_tokens > 0, said.usage


def response_stream(model):
    with responses.stream(model=model, input="hello") as events:
        expect("text", "".join(e.delta for e in events if e.type == "response.output_text.delta"), SAID)
        final = events.get_final_response()
    expect("whole", (final.output_text, final.status), (SAID, "completed"))
    assert final.usage.output_tokens > 0, final


def response_tools(model):
    asked = {"model": model, "tools": [{"type": "function", "strict": True, **TOOL["function"]}]}
    called = responses.create(input=[QUESTION], **asked)
    call = next(item for item in called.output if item.type == "function_call")
    expect("call", json.loads(call.arguments), CALLED)
    with responses.stream(input=[QUESTION], **asked) as events:
        final = events.until_done().get_final_response()
    expect("streamed call", [json.loads(i.arguments) for i in final.output if i.type == "function_call"], [CALLED])
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answer = responses.create(input=[QUESTION, *called.output, result], **asked)
    expect("after the tool", answer.output_text, AFTER_TOOL)


def response_vision(model):
    parts = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": PICTURE_URL}]
    expect("picture", responses.create(model=model, input=[{"role": "user", "content": parts}]).output_text, SEEN)


def response_schema(model):
    wanted = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
    answer = responses.create(model=model, input="hello", text=wanted)
    expect("JSON", json.loads(answer.output_text), {"echo": "hello"})


FEATURES = {"chat": chat, "stream": stream, "tools": tools, "vision": vision, "schema": schema}
RESPONSES = {
    "chat": response,
    "stream": response_stream,
    "tools": response_tools,
    "vision": response_vision,
    "schema": response_schema,
}
CLIENTS = [
    Client("OpenAI SDK (Python)", FEATURES, of_open_ai),
    Client("OpenAI SDK, responses (Python)", RESPONSES, of_open_ai),
]

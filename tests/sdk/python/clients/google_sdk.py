"""Google's own Gen AI SDK."""

import json

from google import genai
from google.genai import types

from . import AFTER_TOOL, CALLED, KEY, PICTURE_BYTES, ROOT, SAID, SCHEMA, SEEN, Client, expect, of_google

client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=ROOT))
models = client.models
FUNCTION = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
TOOLS = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=[FUNCTION])],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
QUESTION = types.UserContent("#tool please")


def chat(model):
    config = types.GenerateContentConfig(system_instruction="Be brief.")
    said = models.generate_content(model=model, contents="hello", config=config)
    expect("text", said.text, SAID)
    expect("end", said.candidates[0].finish_reason, types.FinishReason.STOP)
    assert said.usage_metadata.prompt_token_count > 0, said


def stream(model):
    pieces = list(models.generate_content_stream(model=model, contents="hello"))
    expect("text", "".join(piece.text or "" for piece in pieces), SAID)
    assert pieces[-1].usage_metadata.total_token_count > 0, pieces[-1]


def tools(model):
    called = models.generate_content(model=model, contents=QUESTION, config=TOOLS)
    call = called.function_calls[0]
    expect("call", (call.name, call.args), ("weather", CALLED))
    pieces = models.generate_content_stream(model=model, contents=QUESTION, config=TOOLS)
    calls = [call.args for piece in pieces for call in piece.function_calls or []]
    expect("streamed call", calls, [CALLED])
    response = types.FunctionResponse(id=call.id, name="weather", response={"output": "rain"})
    result = types.UserContent(types.Part(function_response=response))
    back = [QUESTION, called.candidates[0].content, result]
    expect("after the tool", models.generate_content(model=model, contents=back, config=TOOLS).text, AFTER_TOOL)


def vision(model):
    picture = types.Part.from_bytes(data=PICTURE_BYTES, mime_type="image/png")
    seen = models.generate_content(model=model, contents=["see", picture])
    expect("picture", seen.text, SEEN)


def schema(model):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA)
    answer = models.generate_content(model=model, contents="hello", config=config)
    expect("JSON", json.loads(answer.text), {"echo": "hello"})


FEATURES = {"chat": chat, "stream": stream, "tools": tools, "vision": vision, "schema": schema}
CLIENTS = [Client("Google Gen AI SDK (Python)", FEATURES, of_google)]

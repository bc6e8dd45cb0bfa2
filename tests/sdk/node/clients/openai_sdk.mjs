// OpenAI's own SDK.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, ofOpenAi } from "./client.mjs";

const chats = new OpenAI({ baseURL: `${ROOT}/v1`, apiKey: KEY, maxRetries: 0 }).chat.completions;
const hello = [{ role: "user", content: "hello" }];
const question = { role: "user", content: "#tool please" };
const tools = [{ type: "function", function: { name: "weather", parameters: SCHEMA } }];
const first = (answer) => answer.choices[0].message;

const features = {
  async chat(model) {
    const said = await chats.create({ model, messages: [{ role: "system", content: "Be brief." }, ...hello] });
    assert.equal(first(said).content, SAID);
    assert.equal(said.choices[0].finish_reason, "stop");
    assert.equal(said.usage.total_tokens, said.usage.prompt_tokens + said.usage.completion_tokens);
  },
  async stream(model) {
    const asked = { model, messages: hello, stream_options: { include_usage: true } };
    const final = await chats.stream(asked).finalChatCompletion();
    assert.equal(first(final).content, SAID);
    assert.ok(final.usage.completion_tokens > 0);
  },
  async tools(model) {
    const called = first(await chats.create({ model, tools, messages: [question] }));
    assert.deepEqual(JSON.parse(called.tool_calls[0].function.arguments), CALLED);
    const streamed = first(await chats.stream({ model, tools, messages: [question] }).finalChatCompletion());
    assert.deepEqual(JSON.parse(streamed.tool_calls[0].function.arguments), CALLED);
    const result = { role: "tool", tool_call_id: called.tool_calls[0].id, content: "rain" };
    const answer = await chats.create({ model, tools, messages: [question, called, result] });
    assert.equal(first(answer).content, AFTER_TOOL);
  },
  async vision(model) {
    const picture = { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } };
    const content = [{ type: "text", text: "see" }, picture];
    assert.equal(first(await chats.create({ model, messages: [{ role: "user", content }] })).content, SEEN);
  },
  async schema(model) {
    const wanted = { type: "json_schema", json_schema: { name: "answer", schema: SCHEMA, strict: true } };
    const answer = await chats.create({ model, messages: hello, response_format: wanted });
    assert.deepEqual(JSON.parse(first(answer).content), { echo: "hello" });
  },
};

export const CLIENTS = [{ name: "OpenAI SDK (Node)", features, refusal: ofOpenAi }];

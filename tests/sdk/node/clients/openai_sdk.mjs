// OpenAI's own SDK.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, ofOpenAi } from "./client.mjs";

const client = new OpenAI({ baseURL: `${ROOT}/v1`, apiKey: KEY, maxRetries: 0 });
const [chats, asResponses] = [client.chat.completions, client.responses];
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

const responses = {
  async chat(model) {
    const said = await asResponses.create({ model, instructions: "Be brief.", input: "hello" });
    assert.deepEqual([said.output_text, said.status], [SAID, "completed"]);
    assert.ok(said.usage.input_tokens > 0 && said.usage.output_tokens > 0);
  },
  async stream(model) {
    const final = await asResponses.stream({ model, input: "hello" }).finalResponse();
    assert.equal(final.output_text, SAID);
    assert.ok(final.usage.output_tokens > 0);
  },
  async tools(model) {
    const asked = { model, tools: [{ type: "function", strict: true, ...tools[0].function }] };
    const callOf = (answer) => answer.output.find((item) => item.type === "function_call");
    const called = await asResponses.create({ ...asked, input: [question] });
    assert.deepEqual(JSON.parse(callOf(called).arguments), CALLED);
    const streamed = await asResponses.stream({ ...asked, input: [question] }).finalResponse();
    assert.deepEqual(JSON.parse(callOf(streamed).arguments), CALLED);
    const result = { type: "function_call_output", call_id: callOf(called).call_id, output: "rain" };
    const answer = await asResponses.create({ ...asked, input: [question, ...called.output, result] });
    assert.equal(answer.output_text, AFTER_TOOL);
  },
  async vision(model) {
    const picture = { type: "input_image", detail: "auto", image_url: `data:image/png;base64,${PICTURE}` };
    const content = [{ type: "input_text", text: "see" }, picture];
    assert.equal((await asResponses.create({ model, input: [{ role: "user", content }] })).output_text, SEEN);
  },
  async schema(model) {
    const format = { type: "json_schema", name: "answer", schema: SCHEMA, strict: true };
    const answer = await asResponses.create({ model, input: "hello", text: { format } });
    assert.deepEqual(JSON.parse(answer.output_text), { echo: "hello" });
  },
};

export const CLIENTS = [
  { name: "OpenAI SDK (Node)", features, refusal: ofOpenAi },
  { name: "OpenAI SDK, responses (Node)", features: responses, refusal: ofOpenAi },
];

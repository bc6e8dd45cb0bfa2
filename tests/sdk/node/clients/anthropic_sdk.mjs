// Anthropic's own SDK.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, ofAnthropic } from "./client.mjs";

const { messages } = new Anthropic({ baseURL: ROOT, apiKey: KEY, maxRetries: 0 });
const hello = [{ role: "user", content: "hello" }];
const question = { role: "user", content: "#tool please" };
const tools = [{ name: "weather", input_schema: SCHEMA }];
const textOf = (message) => message.content.find((block) => block.type === "text").text;
const callOf = (message) => message.content.find((block) => block.type === "tool_use");

const features = {
  async chat(model) {
    const said = await messages.create({ model, max_tokens: 200, system: "Be brief.", messages: hello });
    assert.equal(textOf(said), SAID);
    assert.equal(said.stop_reason, "end_turn");
    assert.ok(said.usage.input_tokens > 0 && said.usage.output_tokens > 0);
  },
  async stream(model) {
    const final = await messages.stream({ model, max_tokens: 200, messages: hello }).finalMessage();
    assert.equal(textOf(final), SAID);
    assert.ok(final.usage.output_tokens > 0);
  },
  async tools(model) {
    const asked = { model, max_tokens: 200, tools };
    const called = await messages.create({ ...asked, messages: [question] });
    assert.deepEqual(callOf(called).input, CALLED);
    const streamed = await messages.stream({ ...asked, messages: [question] }).finalMessage();
    assert.deepEqual(callOf(streamed).input, CALLED);
    const result = { type: "tool_result", tool_use_id: callOf(called).id, content: "rain" };
    const said = { role: "assistant", content: called.content };
    const back = [question, said, { role: "user", content: [result] }];
    assert.equal(textOf(await messages.create({ ...asked, messages: back })), AFTER_TOOL);
  },
  async vision(model) {
    const source = { type: "base64", media_type: "image/png", data: PICTURE };
    const content = [{ type: "text", text: "see" }, { type: "image", source }];
    const seen = await messages.create({ model, max_tokens: 200, messages: [{ role: "user", content }] });
    assert.equal(textOf(seen), SEEN);
  },
  async schema(model) {
    const output_config = { format: { type: "json_schema", schema: SCHEMA } };
    const answer = await messages.create({ model, max_tokens: 200, messages: hello, output_config });
    assert.deepEqual(JSON.parse(textOf(answer)), { echo: "hello" });
  },
};

export const CLIENTS = [{ name: "Anthropic SDK (Node)", features, refusal: ofAnthropic }];

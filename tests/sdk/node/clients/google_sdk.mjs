// Google's own Gen AI SDK.

import assert from "node:assert/strict";
import { GoogleGenAI } from "@google/genai";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, ofGoogle } from "./client.mjs";

const { models } = new GoogleGenAI({ apiKey: KEY, httpOptions: { baseUrl: ROOT } });
const tools = [{ functionDeclarations: [{ name: "weather", parametersJsonSchema: SCHEMA }] }];
const question = { role: "user", parts: [{ text: "#tool please" }] };

async function collect(stream) {
  const pieces = [];
  for await (const piece of await stream) pieces.push(piece);
  return pieces;
}

const features = {
  async chat(model) {
    const config = { systemInstruction: "Be brief." };
    const said = await models.generateContent({ model, contents: "hello", config });
    assert.equal(said.text, SAID);
    assert.equal(said.candidates[0].finishReason, "STOP");
    assert.ok(said.usageMetadata.promptTokenCount > 0);
  },
  async stream(model) {
    const pieces = await collect(models.generateContentStream({ model, contents: "hello" }));
    assert.equal(pieces.map((piece) => piece.text ?? "").join(""), SAID);
    assert.ok(pieces.at(-1).usageMetadata.totalTokenCount > 0);
  },
  async tools(model) {
    const asked = { model, config: { tools } };
    const called = await models.generateContent({ ...asked, contents: [question] });
    assert.deepEqual(called.functionCalls[0].args, CALLED);
    const pieces = await collect(models.generateContentStream({ ...asked, contents: [question] }));
    assert.deepEqual(pieces.flatMap((piece) => piece.functionCalls ?? []).map((call) => call.args), [CALLED]);
    const functionResponse = { id: called.functionCalls[0].id, name: "weather", response: { output: "rain" } };
    const result = { role: "user", parts: [{ functionResponse }] };
    const back = [question, called.candidates[0].content, result];
    assert.equal((await models.generateContent({ ...asked, contents: back })).text, AFTER_TOOL);
  },
  async vision(model) {
    const parts = [{ text: "see" }, { inlineData: { mimeType: "image/png", data: PICTURE } }];
    const seen = await models.generateContent({ model, contents: [{ role: "user", parts }] });
    assert.equal(seen.text, SEEN);
  },
  async schema(model) {
    const config = { responseMimeType: "application/json", responseJsonSchema: SCHEMA };
    const answer = await models.generateContent({ model, contents: "hello", config });
    assert.deepEqual(JSON.parse(answer.text), { echo: "hello" });
  },
};

export const CLIENTS = [{ name: "Google Gen AI SDK (Node)", features, refusal: ofGoogle }];

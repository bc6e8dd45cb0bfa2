// What every client can do with every provider's models, written as rows of JSON for the matrix of the README; and a
// refusal and counts of tokens in Anthropic's and Google's SDKs. See ../README.md.

import assert from "node:assert/strict";
import fs from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import { CLIENTS as AI_SDK } from "./clients/ai_sdk.mjs";
import { CLIENTS as ANTHROPIC } from "./clients/anthropic_sdk.mjs";
import { KEYS, ROOT, rows } from "./clients/client.mjs";
import { CLIENTS as GOOGLE } from "./clients/google_sdk.mjs";
import { CLIENTS as LANG_CHAIN } from "./clients/langchain_chat.mjs";
import { CLIENTS as OPEN_AI } from "./clients/openai_sdk.mjs";

const refused = new Anthropic({ baseURL: ROOT, apiKey: KEYS.revoked });
const question = { model: "claude-sonnet-4-5", max_tokens: 9, messages: [{ role: "user", content: "hi" }] };
await assert.rejects(
  refused.messages.create(question),
  (why) => why instanceof Anthropic.AuthenticationError && why.error.error.code === "key_revoked",
);
const healthy = { apiKey: KEYS.healthy };
const counting = new Anthropic({ baseURL: ROOT, maxRetries: 0, ...healthy });
const counted = { model: question.model, messages: question.messages };
const { input_tokens } = await counting.messages.countTokens(counted);
const { usage } = await counting.messages.create(question);
assert.equal(input_tokens, usage.input_tokens);
const google = new GoogleGenAI({ httpOptions: { baseUrl: ROOT }, ...healthy });
const contents = { model: "gemini-2.5-flash", contents: "hello" };
const { totalTokens } = await google.models.countTokens(contents);
const { usageMetadata } = await google.models.generateContent(contents);
assert.equal(totalTokens, usageMetadata.promptTokenCount);
// The AI SDK warns of settings that a model does not take; the checks see what comes back.
globalThis.AI_SDK_LOG_WARNINGS = false;
for (const client of [...OPEN_AI, ...ANTHROPIC, ...GOOGLE, ...AI_SDK, ...LANG_CHAIN]) {
  for await (const row of rows(client)) fs.appendFileSync(process.env.RESULTS, `${JSON.stringify(row)}\n`);
}
console.log("clients in Node: ok");

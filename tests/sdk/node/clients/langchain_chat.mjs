// LangChain over each of the three SDKs: the same words for all of them.

import assert from "node:assert/strict";
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import { ChatGoogleGenerativeAI } from "@langchain/google-genai";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN } from "./client.mjs";
import { ofAnthropic, ofOpenAi } from "./client.mjs";

const TOOL = { type: "function", function: { name: "weather", description: "The weather.", parameters: SCHEMA } };
const QUESTION = new HumanMessage("#tool please");
const HELLO = [new SystemMessage("Be brief."), new HumanMessage("hello")];

async function whole(stream) {
  let whole;
  for await (const piece of await stream) whole = whole ? whole.concat(piece) : piece;
  return whole;
}

// A picture as it is given to the chat of each SDK. Google's takes an image_url for names of Gemini's models alone.
const URL_OF_IT = { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } };
const DATA_OF_IT = { type: "image", mimeType: "image/png", data: PICTURE };

// What is shown; `ask` makes LangChain's chat of a model.
function features(ask, picture = URL_OF_IT) {
  return {
    async chat(model) {
      const said = await ask(model).invoke(HELLO);
      assert.equal(said.text, SAID);
      assert.ok(said.usage_metadata.input_tokens > 0 && said.usage_metadata.output_tokens > 0);
    },
    async stream(model) {
      const said = await whole(ask(model).stream(HELLO));
      assert.equal(said.text, SAID);
      assert.ok(said.usage_metadata.output_tokens > 0);
    },
    async tools(model) {
      const able = ask(model).bindTools([TOOL]);
      const called = await able.invoke([QUESTION]);
      assert.deepEqual(called.tool_calls[0].args, CALLED);
      const streamed = await whole(able.stream([QUESTION]));
      assert.deepEqual(streamed.tool_calls[0].args, CALLED);
      const result = new ToolMessage({ content: "rain", tool_call_id: called.tool_calls[0].id, name: "weather" });
      assert.equal((await able.invoke([QUESTION, called, result])).text, AFTER_TOOL);
    },
    async vision(model) {
      const content = [{ type: "text", text: "see" }, picture];
      assert.equal((await ask(model).invoke([new HumanMessage({ content })])).text, SEEN);
    },
    async schema(model) {
      const able = ask(model).withStructuredOutput(SCHEMA, { method: "jsonSchema", name: "answer" });
      assert.deepEqual(await able.invoke("hello"), { echo: "hello" });
    },
  };
}

const openAi = { apiKey: KEY, maxRetries: 0, configuration: { baseURL: `${ROOT}/v1` } };
const chat = (model) => new ChatOpenAI({ model, ...openAi });
const responses = (model) => new ChatOpenAI({ model, useResponsesApi: true, ...openAi });
const anthropic = (model) =>
  new ChatAnthropic({ model, apiKey: KEY, anthropicApiUrl: ROOT, maxRetries: 0, maxTokens: 200 });
const google = (model) => new ChatGoogleGenerativeAI({ model, apiKey: KEY, baseUrl: ROOT, maxRetries: 0 });

// It has an older SDK of Google's below it, which keeps the details of a refusal as they came.
const ofDetails = (error) => [error?.errorDetails?.[0]?.reason, error?.errorDetails?.[0]?.param];

// Beside chats, with a model of the demo.
const others = {
  async embeddings() {
    const embed = new OpenAIEmbeddings({ model: "demo-embedding", dimensions: 5, ...openAi });
    const rows = await embed.embedDocuments(["one", "two"]);
    assert.deepEqual(rows.map((row) => row.length), [5, 5]);
  },
};

export const CLIENTS = [
  { name: "LangChain, ChatOpenAI (Node)", features: features(chat), refusal: ofOpenAi },
  { name: "LangChain, ChatOpenAI with responses (Node)", features: features(responses), refusal: ofOpenAi },
  { name: "LangChain, ChatAnthropic (Node)", features: features(anthropic), refusal: ofAnthropic },
  { name: "LangChain, ChatGoogleGenerativeAI (Node)", features: features(google, DATA_OF_IT), refusal: ofDetails },
  { name: "LangChain, ChatOpenAI (Node)", features: others, refusal: ofOpenAi, models: [null] },
];

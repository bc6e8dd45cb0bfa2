// The AI SDK (Vercel) over each of its providers' clients: the same words for all of them.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import {
  embedMany,
  experimental_generateSpeech as generateSpeech,
  experimental_transcribe as transcribe,
  generateImage,
  generateObject,
  generateText,
  jsonSchema,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, ofText } from "./client.mjs";

const openAi = createOpenAI({ baseURL: `${ROOT}/v1`, apiKey: KEY });
const anthropic = createAnthropic({ baseURL: `${ROOT}/v1`, apiKey: KEY });
const google = createGoogleGenerativeAI({ baseURL: `${ROOT}/v1beta`, apiKey: KEY });

// What is shown; `ask` makes the AI SDK's model of a name.
function features(ask) {
  const asked = (model, more) => ({ model: ask(model), maxRetries: 0, maxOutputTokens: 200, ...more });
  // The loop runs the tool and goes back with what it gave.
  const weather = () => {
    const calls = [];
    const execute = async (input) => {
      calls.push(input);
      return "rain";
    };
    const tools = { weather: tool({ description: "The weather.", inputSchema: jsonSchema(SCHEMA), execute }) };
    return { calls, more: { tools, prompt: "#tool please", stopWhen: stepCountIs(2) } };
  };
  return {
    async chat(model) {
      const said = await generateText(asked(model, { system: "Be brief.", prompt: "hello" }));
      assert.equal(said.text, SAID);
      assert.equal(said.finishReason, "stop");
      assert.ok(said.usage.inputTokens > 0 && said.usage.outputTokens > 0);
    },
    async stream(model) {
      let failure;
      const onError = ({ error }) => (failure = error);
      const said = streamText(asked(model, { prompt: "hello", onError }));
      let text = "";
      for await (const piece of said.textStream) text += piece;
      if (failure) throw failure;
      assert.equal(text, SAID);
      assert.ok((await said.usage).outputTokens > 0);
    },
    async tools(model) {
      const { calls, more } = weather();
      assert.equal((await generateText(asked(model, more))).text, AFTER_TOOL);
      assert.deepEqual(calls, [CALLED]);
      const streamed = weather();
      const said = streamText(asked(model, streamed.more));
      assert.equal(await said.text, AFTER_TOOL);
      assert.deepEqual(streamed.calls, [CALLED]);
    },
    async vision(model) {
      const picture = { type: "image", image: PICTURE, mediaType: "image/png" };
      const messages = [{ role: "user", content: [{ type: "text", text: "see" }, picture] }];
      assert.equal((await generateText(asked(model, { messages }))).text, SEEN);
    },
    async schema(model) {
      const answer = await generateObject(asked(model, { schema: jsonSchema(SCHEMA), prompt: "hello" }));
      assert.deepEqual(answer.object, { echo: "hello" });
    },
  };
}

// Beside chats, with models of the demo.
const others = {
  async embeddings() {
    const model = openAi.embedding("demo-embedding");
    const { embeddings, usage } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
    assert.equal(embeddings.length, 2);
    assert.ok(usage.tokens > 0);
  },
  async images() {
    const { images } = await generateImage({ model: openAi.image("demo-image"), prompt: "a cat", maxRetries: 0 });
    assert.ok(images[0].base64.length > 0);
  },
  async speech() {
    const model = openAi.speech("demo-speech");
    const { audio } = await generateSpeech({ model, text: "hello", voice: "alloy", maxRetries: 0 });
    assert.equal(Buffer.from(audio.uint8Array).toString(), "ID3\u0004echo: hello");
  },
  async transcriptions() {
    const model = openAi.transcription("demo-transcribe");
    const { text } = await transcribe({ model, audio: Buffer.from("RIFF\0\0\0\0WAVEfmt "), maxRetries: 0 });
    assert.ok(text.startsWith("echo: "), text);
  },
};

export const CLIENTS = [
  { name: "AI SDK, OpenAI's chat (Node)", features: features((model) => openAi.chat(model)), refusal: ofText },
  { name: "AI SDK, OpenAI's responses (Node)", features: features((model) => openAi.responses(model)), refusal: ofText },
  { name: "AI SDK, Anthropic (Node)", features: features((model) => anthropic(model)), refusal: ofText },
  { name: "AI SDK, Google (Node)", features: features((model) => google(model)), refusal: ofText },
  { name: "AI SDK, OpenAI's chat (Node)", features: others, refusal: ofText, models: [null] },
];

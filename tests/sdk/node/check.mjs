// The official OpenAI SDK for Node against a running gateway; see ../README.md.

import fs from "node:fs";
import http from "node:http";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const BASE_URL = new URL(process.env.BASE_URL.replace(/\/$/, ""));
const KEYS = JSON.parse(process.env.KEYS);
const PLAIN = process.env.SDK_PLAIN === "1";
const REFUSALS = JSON.parse(fs.readFileSync(new URL("../refusals.json", import.meta.url), "utf8"));

let passed = 0;
const failures = [];
let requests = 0;

// Passes requests on and counts them.
const proxy = http.createServer((request, response) => {
  requests += 1;
  const target = { host: BASE_URL.hostname, port: BASE_URL.port, method: request.method, path: request.url };
  const onward = http.request({ ...target, headers: { ...request.headers, host: BASE_URL.host } }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.on("error", () => response.destroy());
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  request.pipe(onward);
});

function check(name, condition, detail = "") {
  if (condition) {
    passed += 1;
  } else {
    failures.push(name);
    console.error(`FAILED ${name}:`, detail);
  }
}

function client(key, maxRetries = 3, root = false) {
  const path = root ? "" : BASE_URL.pathname;
  const baseURL = `http://127.0.0.1:${proxy.address().port}${path}`;
  return new OpenAI({ apiKey: key, baseURL, maxRetries, timeout: 30_000 });
}

const ask = (text) => [{ role: "user", content: text }];

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function checkChat(healthy) {
  const call = healthy.chat.completions.create({ model: "gpt-5-mini", messages: ask("hello") });
  const { data, response, request_id } = await call.withResponse();
  check("chat", data.choices[0].message.content === "echo: hello", data);
  const usage = data.usage;
  check("chat usage", usage.total_tokens > 0 && usage.total_tokens === usage.prompt_tokens + usage.completion_tokens);
  if (!PLAIN) {
    check("request id", request_id?.startsWith("req_"), request_id);
    check("cost header", response.headers.has("x-tallygate-cost"));
  }
  const short = { model: "demo-no-usage", messages: ask("hello"), max_tokens: 2 };
  const shortened = await healthy.chat.completions.create(short);
  check("a cap shortens the answer", shortened.choices[0].finish_reason === "length", shortened);
  const several = await healthy.chat.completions.create({ model: "gpt-5-mini", messages: ask("hello"), n: 2 });
  check("several answers", several.choices.every((choice) => choice.message.content === "echo: hello"), several);
  check("two answers", several.choices.length === 2, several);
}

async function checkStreams(healthy) {
  const text = "the quick brown fox jumps over the lazy dog";
  for (const model of ["gpt-5-mini", "demo-slow", "deepseek-chat"]) {
    const stream = await healthy.chat.completions.create({ model, messages: ask(text), stream: true });
    const chunks = await collect(stream);
    const said = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    check(`stream ${model}`, said.startsWith(`echo: ${text}`), said);
    check(`stream ${model} ends`, chunks.at(-1).choices[0].finish_reason === "stop", chunks.at(-1));
    // DeepSeek's own last chunk carries the usage, asked or not.
    if (model !== "deepseek-chat") check(`stream ${model} is silent on usage`, chunks.every((chunk) => !chunk.usage));
  }
  const asked = { model: "gpt-5-mini", messages: ask(text), stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await healthy.chat.completions.create(asked));
  const last = chunks.at(-1);
  check("stream usage", last.choices.length === 0 && last.usage.total_tokens > 0, last);
  check("stream usage comes once", chunks.filter((chunk) => chunk.usage).length === 1);
  const helper = healthy.chat.completions.stream({ model: "gpt-5-mini", messages: ask(text) });
  check("stream helper", (await helper.finalContent()) === `echo: ${text}`);
  try {
    const cut = { model: "demo-cut", messages: ask(text), stream: true };
    await collect(await healthy.chat.completions.create(cut, { maxRetries: 0 }));
    check("a cut stream throws", false, "it ended as if it were whole");
  } catch (error) {
    const interrupted = error instanceof OpenAI.APIError && error.code === "stream_interrupted";
    check("a cut stream throws", PLAIN || interrupted, error);
  }
}

async function checkToolsAndPictures(healthy) {
  const parameters = { type: "object", properties: {} };
  const tools = [{ type: "function", function: { name: "look_up", parameters } }];
  const body = { model: "gpt-5-mini", messages: ask("now #tool"), tools };
  const called = await healthy.chat.completions.create(body);
  const call = called.choices[0].message.tool_calls[0].function;
  check("tool call", call.name === "look_up" && JSON.parse(call.arguments).echo === "now #tool", called);
  const chunks = await collect(await healthy.chat.completions.create({ ...body, stream: true }));
  const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  const text = pieces.map((piece) => piece.function.arguments).join("");
  check("streamed tool call", JSON.parse(text).echo === "now #tool", text);
  const url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const content = [{ type: "text", text: "see" }, { type: "image_url", image_url: { url } }];
  const seen = await healthy.chat.completions.create({ model: "gpt-5-mini", messages: [{ role: "user", content }] });
  check("picture", seen.choices[0].message.content === "echo: see [1 image(s)]", seen);
}

async function checkCompletions(healthy) {
  const model = "gpt-5-mini";
  const text = await healthy.completions.create({ model, prompt: "hello", max_tokens: 60 });
  check("completion", text.choices[0].text === "echo: hello" && text.usage.total_tokens > 0, text);
  const chunks = await collect(await healthy.completions.create({ model, prompt: "hello", max_tokens: 60, stream: true }));
  check("completion stream", chunks.map((chunk) => chunk.choices[0].text).join("") === "echo: hello", chunks);
}

async function checkResponses(healthy) {
  const model = "gpt-5-mini";
  const answer = await healthy.responses.create({ model, input: "hello", max_output_tokens: 60 });
  check("response", answer.output_text === "echo: hello" && answer.status === "completed", answer);
  check("response usage", answer.usage.output_tokens_details.reasoning_tokens > 0, answer.usage);
  const events = await collect(await healthy.responses.create({ model, input: "hello", stream: true }));
  const said = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
  check("response stream", said.join("") === "echo: hello", said);
  check("response stream ends", events.at(-1).type === "response.completed", events.at(-1));
  const tool = { type: "function", name: "look_up", parameters: { type: "object", properties: {} }, strict: false };
  const called = await healthy.responses.create({ model, input: "now #tool", tools: [tool] });
  check("response tool call", called.output[0].name === "look_up", called.output);
}

function wave(samples = 16_000) {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(8_000, 24);
  head.writeUInt32LE(16_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples * 2, 40);
  return new File([head, Buffer.alloc(samples * 2)], "a.wav", { type: "audio/wav" });
}

async function checkEmbeddings(healthy) {
  const vectors = await healthy.embeddings.create({ model: "demo-embedding", input: ["one", "two"], dimensions: 5 });
  check("embeddings", vectors.data.every((row) => row.embedding.length === 5) && vectors.usage.total_tokens > 0, vectors);
}

async function checkImages(healthy) {
  const drawn = await healthy.images.generate({ model: "demo-image", prompt: "a cat", n: 2, size: "1792x1024" });
  check("pictures", drawn.data.length === 2 && drawn.data[0].revised_prompt === "echo: a cat", drawn);
  const byTokens = { model: "demo-image-tokens", prompt: "a cat" };
  const told = await healthy.images.generate({ ...byTokens, quality: "low" });
  check("pictures by tokens", told.data[0].b64_json && told.usage.output_tokens > 0, told);
  const shown = await collect(await healthy.images.generate({ ...byTokens, stream: true }));
  check("picture stream", shown.length === 1 && shown[0].type === "image_generation.completed", shown);
  const picture = () => new File([Buffer.from("PNG")], "a.png", { type: "image/png" });
  const edited = await healthy.images.edit({ ...byTokens, image: [picture(), picture()] });
  check("picture changed", edited.usage.input_tokens_details.image_tokens > 0, edited);
}

async function checkSpeech(healthy) {
  const spoken = await healthy.audio.speech.create({ model: "demo-speech", voice: "alloy", input: "hello" });
  check("speech", Buffer.from(await spoken.arrayBuffer()).toString() === "ID3\u0004echo: hello");
}

async function checkTranscriptions(healthy) {
  const written = await healthy.audio.transcriptions.create({ model: "demo-transcribe", file: wave() });
  check("transcript", written.text.startsWith("echo: 32044 bytes") && written.usage.seconds === 2, written);
  const streamed = { model: "demo-transcribe-tokens", file: wave(), stream: true };
  const events = await collect(await healthy.audio.transcriptions.create(streamed));
  check("transcript stream", events.at(-1).type === "transcript.text.done" && events.at(-1).usage, events.at(-1));
}

async function checkModerations(healthy) {
  const judged = await healthy.moderations.create({ input: ["kind", "#flag"] });
  check("moderation", judged.results.map((result) => result.flagged).join() === "false,true", judged);
}

async function checkRerank(healthy) {
  const body = { model: "demo-rerank", query: "apple", documents: ["a sky", "an apple"], top_n: 1 };
  const ranked = await healthy.post("/rerank", { body });
  check("rerank", ranked.results[0].index === 1, ranked);
}

async function checkVideos({ videos }) {
  if (PLAIN) return;
  const asked = { model: "demo-video", prompt: "a dog", seconds: "4" };
  let video = await videos.create(asked);
  while (["queued", "in_progress"].includes(video.status)) {
    await new Promise((later) => setTimeout(later, 100));
    video = await videos.retrieve(video.id);
  }
  check("video", video.status === "completed" && video.seconds === "4", video);
  const listed = [];
  for await (const row of videos.list()) listed.push(row.id);
  check("videos listed", listed.includes(video.id), listed);
  const content = await videos.downloadContent(video.id);
  check("video content", (await content.arrayBuffer()).byteLength > 0);
  check("video deleted", (await videos.delete(video.id)).deleted);
}

async function checkModels(healthy) {
  const names = new Set();
  for await (const model of healthy.models.list()) names.add(model.id);
  check("models", ["gpt-5-mini", "deepseek-chat", "demo-slow"].every((name) => names.has(name)), names);
}

// A rate is the one thing that a retry helps with: the SDK waits as long as it is told to.
async function checkRate() {
  if (PLAIN || !KEYS.qps_one) return;
  // The check for Python may have made a call of this key just now.
  await new Promise((later) => setTimeout(later, 1_100));
  const [limited, before, calls] = [client(KEYS.qps_one), requests, 4];
  for (let call = 0; call < calls; call += 1) {
    const answer = await limited.chat.completions.create({ model: "gpt-5-mini", messages: ask("hello") });
    check("a rate lets the retried call pass", answer.choices[0].message.content === "echo: hello", answer);
  }
  const retries = requests - before - calls;
  check("a rate is retried, once for a call", retries >= 1 && retries < calls, `${retries} retries of ${calls} calls`);
}

// The exception of a refusal and how many requests it led to.
async function refused(refusal, retries) {
  let key = refusal.key_text ?? KEYS[refusal.key];
  if (refusal.key_edit === "truncate") key = key.slice(0, -5);
  const body = { model: refusal.model ?? "gpt-5-mini", messages: ask("hello"), ...refusal.body };
  const before = requests;
  try {
    await client(key, retries, refusal.base === "root").chat.completions.create(body);
  } catch (error) {
    return { error, count: requests - before };
  }
  return { error: null, count: requests - before };
}

// The SDK for Node has no class of its own between APIError and the known ones.
const className = (name) => (name === "APIStatusError" ? "APIError" : name);

async function checkRefusal(refusal) {
  const { name, status, codes } = refusal;
  let { error, count } = await refused(refusal, status < 500 ? 3 : 1);
  if (!(error instanceof OpenAI.APIError)) return check(name, false, error ?? "the call was admitted");
  check(`${name}: class`, error.constructor.name === className(refusal.class), error);
  check(`${name}: status`, error.status === status, error);
  check(`${name}: code`, codes.includes(error.code), error);
  if (PLAIN) return;
  if (refusal.param) check(`${name}: param`, error.param === refusal.param, error);
  check(`${name}: words`, !refusal.never_says || !error.message.includes(refusal.never_says), error);
  check(`${name}: request id`, error.requestID?.startsWith("req_"), error.requestID);
  if (refusal.retry_after) check(`${name}: Retry-After`, error.headers.has("retry-after"));
  if (error.error.retryable) {
    check(`${name}: is retried`, count === 2, `${count} requests with one retry allowed`);
  } else {
    check(`${name}: x-should-retry`, error.headers.get("x-should-retry") === "false");
    if (status >= 500) ({ error, count } = await refused(refusal, 3));
    check(`${name}: one request`, count === 1, `${count} requests`);
  }
}

await new Promise((ready) => proxy.listen(0, "127.0.0.1", ready));
const healthy = client(KEYS.healthy);
// Endpoints beside the chat, which are told as rows of the README's matrix.
const routes = {
  completions: checkCompletions,
  responses: checkResponses,
  embeddings: checkEmbeddings,
  images: checkImages,
  speech: checkSpeech,
  transcriptions: checkTranscriptions,
  moderations: checkModerations,
  rerank: checkRerank,
  videos: checkVideos,
  models: checkModels,
};
for (const step of [checkChat, checkStreams, checkToolsAndPictures, ...Object.values(routes), checkRate]) {
  try {
    await step(healthy);
  } catch (error) {
    check(step.name, false, error);
  }
}
if (process.env.RESULTS && failures.length === 0) {
  for (const feature of Object.keys(routes)) {
    const row = { client: "OpenAI SDK (Node)", model: null, feature, result: "works" };
    fs.appendFileSync(process.env.RESULTS, `${JSON.stringify(row)}\n`);
  }
}
const skipped = [];
for (const refusal of REFUSALS) {
  if (PLAIN && !refusal.plain) continue;
  if (refusal.key && !(refusal.key in KEYS)) skipped.push(refusal.key);
  else await checkRefusal(refusal);
}
if (skipped.length > 0) console.log(`no such key yet: ${skipped.join(", ")}`);
console.log(`openai ${VERSION} for Node: ${passed} checks passed, ${failures.length} failed`);
process.exit(failures.length > 0 ? 1 : 0);

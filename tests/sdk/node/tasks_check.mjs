// `client.videos` of OpenAI's official SDK for Node against a demo: made, polled, listed, fetched, deleted, and refused as
// its own exceptions.
//
// BASE_URL (up to /v1) and KEYS (JSON, name to key) come from the environment. Ends with 0 when everything held.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import OpenAI, { toFile } from "openai";

const KEYS = JSON.parse(process.env.KEYS);
const client = (name) => new OpenAI({ apiKey: KEYS[name], baseURL: process.env.BASE_URL, timeout: 30_000 });

async function refused(what, kind, status, code, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${what}: ${error}`);
    assert.deepEqual([error.status, error.code], [status, code], what);
    return;
  }
  assert.fail(`${what} was answered`);
}

const healthy = client("healthy");
const { videos } = healthy;
// Other runs against the same demo must not be taken for submissions of the same.
const run = randomUUID();

async function made(model, prompt) {
  let video = await videos.create({ model, prompt, seconds: "4", size: "1280x720" });
  while (["queued", "in_progress"].includes(video.status)) {
    await pause(100);
    video = await videos.retrieve(video.id);
  }
  return video;
}

const video = await made("demo-video", `a cat ${run}`);
assert.deepEqual([video.object, video.status, video.progress], ["video", "completed", 100]);
assert.deepEqual([video.seconds, video.size, video.tallygate.charged], ["4", "1280x720", "0.4"]);
assert.ok(video.completed_at >= video.created_at && video.expires_at > video.created_at);
const content = await videos.downloadContent(video.id);
assert.equal(await content.text(), `a video of a cat ${run}`);

const short = await videos.create({ model: "demo-video", prompt: `a short one ${run}` });
assert.deepEqual([short.seconds, short.size], ["4", "720x1280"]);
const picture = await toFile(Buffer.from("89504e470d0a1a0a", "hex"), "cat.png", { type: "image/png" });
const drawn = await videos.create({ model: "demo-video", prompt: `a drawn one ${run}`, input_reference: picture });
const again = await videos.create({ model: "demo-video", prompt: `a short one ${run}` }).withResponse();
assert.deepEqual([again.data.id, again.response.headers.get("x-tallygate-duplicate")], [short.id, short.id]);

const page = await videos.list({ limit: 2 });
assert.deepEqual(page.data.map((one) => one.id), [drawn.id, short.id]);
const every = [];
for await (const one of videos.list({ limit: 2 })) every.push(one.id);
assert.ok(every[2] === video.id && new Set(every).size === every.length, `${every}`);

const failed = await made("demo-video-fail", `a cat ${run}`);
assert.deepEqual([failed.status, failed.error.code, failed.tallygate.charged], ["failed", "moderation_blocked", "0"]);

const stuck = await videos.create({ model: "demo-video-stuck", prompt: `a cat ${run}` });
await refused("no content yet", OpenAI.ConflictError, 409, "task_not_finished", () => videos.downloadContent(stuck.id));
assert.equal((await videos.delete(stuck.id)).deleted, true);
await refused("and gone", OpenAI.NotFoundError, 404, "not_found", () => videos.retrieve(stuck.id));
const other = client("empty_balance").videos;
await refused("another's", OpenAI.NotFoundError, 404, "not_found", () => other.retrieve(short.id));

const ask = { model: "demo-video", prompt: `a cat ${run}` };
await refused("no money", OpenAI.APIError, 402, "balance_exhausted", () => other.create(ask));
const revoked = client("revoked").videos;
await refused("a revoked key", OpenAI.AuthenticationError, 401, "key_revoked", () => revoked.create(ask));
const wrong = { ...ask, seconds: "much" };
await refused("a wrong length", OpenAI.BadRequestError, 400, "invalid_parameter", () => videos.create(wrong));
const chats = { ...ask, model: "gpt-5-mini" };
await refused("a model that chats", OpenAI.BadRequestError, 400, "endpoint_not_supported_by_model", () => videos.create(chats));

// Pictures as tasks have no method of their own in the SDK: its generic calls reach them.
let drawing = await healthy.post("/images", { body: { model: "demo-image", prompt: `a picture ${run}`, n: 2 } });
while (["queued", "in_progress"].includes(drawing.status)) {
  await pause(100);
  drawing = await healthy.get(`/images/${drawing.id}`);
}
assert.deepEqual([drawing.status, drawing.tallygate.charged], ["completed", "0.08"]);
const place = drawing.data[1].url.replace(/^\/v1/, "");
const second = await healthy.get(place, { __binaryResponse: true });
assert.equal(await second.text(), `echo: a picture ${run}`);
console.log("tasks: ok");

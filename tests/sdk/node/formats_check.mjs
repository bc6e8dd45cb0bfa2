// Anthropic's and Google's official SDKs for Node against a demo: every client's format to every provider's.
// BASE_URL (up to /v1) and KEYS (JSON, name to key) come from the environment. Ends with 0 when everything held.
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';

const root = process.env.BASE_URL.replace(/\/v1$/, '');
const keys = JSON.parse(process.env.KEYS);
const models = ['gpt-5-mini', 'deepseek-chat', 'claude-sonnet-4-5', 'gemini-2.5-flash'];
const schema = { type: 'object', properties: { echo: { type: 'string' } } };

async function withAnthropic(model) {
  const client = new Anthropic({ baseURL: root, apiKey: keys.healthy });
  const asked = { model, max_tokens: 200 };
  const hello = [{ role: 'user', content: 'hello' }];
  const said = await client.messages.create({ ...asked, messages: hello });
  assert.equal(said.content[0].text, 'echo: hello', model);
  const stream = client.messages.stream({ ...asked, messages: hello });
  const final = await stream.finalMessage();
  assert.equal(final.content.find((block) => block.type === 'text').text, 'echo: hello', model);
  assert.equal(final.usage.output_tokens, said.usage.output_tokens, model);
  const tools = [{ name: 'weather', input_schema: schema }];
  const called = await client.messages
    .stream({ ...asked, tools, messages: [{ role: 'user', content: '#tool please' }] })
    .finalMessage();
  assert.deepEqual(called.content.find((block) => block.type === 'tool_use').input, { echo: '#tool please' }, model);
}

async function withGoogle(model) {
  const client = new GoogleGenAI({ apiKey: keys.healthy, httpOptions: { baseUrl: root } });
  const said = await client.models.generateContent({ model, contents: 'hello' });
  assert.equal(said.text, 'echo: hello', model);
  let text = '';
  for await (const piece of await client.models.generateContentStream({ model, contents: 'hello' })) {
    text += piece.text ?? '';
  }
  assert.equal(text, 'echo: hello', model);
  const tools = [{ functionDeclarations: [{ name: 'weather', parametersJsonSchema: schema }] }];
  const called = await client.models.generateContent({ model, contents: '#tool please', config: { tools } });
  assert.deepEqual(called.functionCalls[0].args, { echo: '#tool please' }, model);
}

for (const model of models) {
  await withAnthropic(model);
  await withGoogle(model);
}
const refused = new Anthropic({ baseURL: root, apiKey: keys.revoked });
await assert.rejects(
  refused.messages.create({ model: models[2], max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }),
  (why) => why instanceof Anthropic.AuthenticationError && why.error.error.code === 'key_revoked',
);
console.log('formats: ok');

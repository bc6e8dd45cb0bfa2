// What is shown of one client: its features, each a function of a model that throws where it is not as it should be.
// Where the gateway or the provider refuses a feature by name, that is the result; anything else fails the check.

export const ROOT = process.env.BASE_URL.replace(/\/v1$/, "");
export const KEYS = JSON.parse(process.env.KEYS);
export const KEY = KEYS.healthy;
export const MODELS = ["gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"];
export const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const SCHEMA = {
  type: "object",
  properties: { echo: { type: "string" } },
  required: ["echo"],
  additionalProperties: false,
};
export const [SAID, SEEN, CALLED] = ["echo: hello", "echo: see [1 image(s)]", { echo: "#tool please" }];
// What the model says once a tool has answered.
export const AFTER_TOOL = "echo: #tool please";

// The body of a refusal in an exception, as its code and the field that it names.
export const ofOpenAi = (error) => [error?.code, error?.param];
export const ofAnthropic = (error) => [error?.error?.error?.code, error?.error?.error?.param];
export function ofGoogle(error) {
  const detail = parsed(error?.message)?.error?.details?.[0];
  return [detail?.reason, detail?.param];
}
// The AI SDK keeps the body as text, whatever its shape.
export function ofText(error) {
  const body = parsed(error?.responseBody ?? error?.cause?.responseBody)?.error;
  return [body?.code, body?.param].every((part) => typeof part !== "string")
    ? [body?.details?.[0]?.reason, body?.details?.[0]?.param]
    : [body.code, body.param];
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function result(client, check, model) {
  try {
    await check(model);
    return "works";
  } catch (error) {
    const [code, param] = client.refusal(error);
    if (code === "invalid_parameter" || code === "upstream_rejected") return param ?? code;
    throw new Error(`${client.name}, ${model}, ${check.name}: ${error}`, { cause: error });
  }
}

// One row for each feature and model: it works, or the field that the refusal named, else its code.
export async function* rows(client) {
  for (const model of client.models ?? MODELS) {
    for (const [feature, check] of Object.entries(client.features)) {
      yield { client: client.name, model, feature, result: await result(client, check, model) };
    }
  }
}

// openai for Node: node openai_client.mjs URL MODEL...
import OpenAI from "openai";

const [url, ...models] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });
const ask = { messages: [{ role: "user", content: "100 101 102" }], max_tokens: 50 };

for (const model of models) {
  const whole = await client.chat.completions.create({ model, ...ask });
  const pieces = [];
  for await (const part of await client.chat.completions.create({ model, ...ask, stream: true })) {
    pieces.push(part.choices[0]?.delta.content ?? "");
  }
  const error = await client.chat.completions
    .create({ model: "nobody-has-it", ...ask })
    .catch((caught) => `${caught.constructor.name} ${caught.status}: ${caught.message}`);
  const listed = [];
  for await (const each of client.models.list()) listed.push(each.id);
  const vectors = await client.embeddings.create({ model, input: ["a", "b"] });
  const told = {
    listed,
    texts: [whole.choices[0].message.content, pieces.join("")],
    pieces: pieces.length,
    vectors: vectors.data.length,
    error,
  };
  console.log(JSON.stringify(told));
}

// ollama-js: node ollama_client.mjs URL MODEL...
import { Ollama } from "ollama";

const [url, ...models] = process.argv.slice(2);
const client = new Ollama({ host: url });
const messages = [{ role: "user", content: "100 101 102" }];
const options = { num_predict: 50 };

for (const model of models) {
  const whole = await client.chat({ model, messages, options });
  const pieces = [];
  for await (const part of await client.chat({ model, messages, options, stream: true })) {
    pieces.push(part.message.content);
  }
  const error = await client
    .chat({ model: "nobody-has-it", messages })
    .catch((caught) => `${caught.name} ${caught.status_code}: ${caught.message}`);
  const told = {
    listed: (await client.list()).models.map((each) => each.model),
    resident: (await client.ps()).models.map((each) => each.model),
    texts: [whole.message.content, pieces.join("")],
    pieces: pieces.length,
    vectors: (await client.embed({ model, input: ["a", "b"] })).embeddings.length,
    error,
  };
  console.log(JSON.stringify(told));
}
